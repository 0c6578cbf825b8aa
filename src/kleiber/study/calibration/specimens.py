"""What calibration runs: small training steps of several kinds, and single operations over shapes.

Steps give the times of calls as they are inside steps, with the caches as a step leaves them; single operations fill in
shapes. What is predicted later is other models: nothing here is of a size that somebody would train.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor, nn

from kleiber.cost.operations import Phase
from kleiber.cost.trace.training_step import build_optimizer, prepare_, run_step
from kleiber.cost.usage import OptimizerName, Precision, Usage
from kleiber.models import build
from kleiber.models.gpt.spec import GPTSpec
from kleiber.models.subject import Inputs
from kleiber.runs import OptimizerRecipe
from kleiber.study.calibration.modules import Encoder, Recurrent, residual_network
from kleiber.train.optimizer import Optimizer

__all__ = ["SPECIMENS", "Specimen", "Step"]

Step = Callable[[Callable[[Phase], object]], None]
"""Runs once; calls what it is given as each phase begins."""

_CLIP_NORM = 1.0
_CLASSES = 10


@dataclass(frozen=True)
class Specimen:
    """One thing to run."""

    build: Callable[[], Step]
    """Makes tensors on the current default device."""
    is_step: bool = False
    """A whole training step, and not a single operation with its gradients."""


def _gpt(
    depth: int,
    width: int,
    batch: int,
    context: int,
    vocab: int,
    *,
    optimizer: Literal["adamw", "muon"] = "adamw",
) -> Specimen:
    """A step as `kleiber train` makes it."""

    def make() -> Step:
        spec = GPTSpec.from_dial({"depth": depth, "width": width}, vocab_size=vocab, context=context)
        module = build(spec).to(torch.get_default_device())
        updates = Optimizer(module, module.param_groups(), OptimizerRecipe(name=optimizer))
        tokens = torch.randint(vocab, (batch, context + 1))

        def step(entering: Callable[[Phase], object]) -> None:
            entering("forward")
            loss = F.cross_entropy(module(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
            entering("backward")
            loss.backward()  # type: ignore[no-untyped-call] # torch leaves it unannotated
            entering("optimizer")
            updates.clip_(_CLIP_NORM)
            updates.step(1e-9)
            updates.zero_grad()

        return step

    return Specimen(make, is_step=True)


def _training(
    build_module: Callable[[], nn.Module],
    make_inputs: Callable[[], Tensor],
    optimizer: OptimizerName,
    precision: Precision = "fp32",
) -> Specimen:
    """A step of any module that ends in classes; the loss is the cross-entropy of the first class."""

    def make() -> Step:
        usage = Usage(optimizer=optimizer, precision=precision)
        module = build_module()
        prepare_(module, usage)
        inputs, updates = Inputs((make_inputs(),)), build_optimizer(optimizer, module)
        return lambda entering: run_step(module, inputs, _first_class, updates, usage, entering=entering)

    return Specimen(make, is_step=True)


def _first_class(logits: Tensor) -> Tensor:
    rows = logits.flatten(0, -2)
    return F.cross_entropy(rows, torch.zeros(len(rows), dtype=torch.int64, device=rows.device))


def _operation(
    apply: Callable[..., Tensor], *shapes: Sequence[int], dtype: torch.dtype = torch.float32
) -> Specimen:
    """One operation of random tensors, and the gradients of all of them."""

    def make() -> Step:
        factors = [torch.randn(*shape).to(dtype).requires_grad_() for shape in shapes]
        gradient = torch.randn(apply(*factors).shape).to(dtype)

        def step(entering: Callable[[Phase], object]) -> None:
            entering("forward")
            result = apply(*factors)
            entering("backward")
            torch.autograd.grad(result, factors, gradient)

        return step

    return Specimen(make)


def _perceptron(batch: int, *sizes: int, optimizer: OptimizerName) -> Specimen:
    def build_module() -> nn.Module:
        layers = [(nn.Linear(m, n), nn.ReLU()) for m, n in itertools.pairwise(sizes[:-1])]
        return nn.Sequential(*(part for pair in layers for part in pair), nn.Linear(sizes[-2], sizes[-1]))

    return _training(build_module, lambda: torch.randn(batch, sizes[0]), optimizer)


def _images(
    batch: int, size: int, build_module: Callable[[], nn.Module], optimizer: OptimizerName
) -> Specimen:
    return _training(build_module, lambda: torch.randn(batch, 3, size, size), optimizer)


def _pooled(channels: int, size: int) -> nn.Module:
    """Convolutions and poolings, then linear layers."""
    return nn.Sequential(
        nn.Conv2d(3, channels, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(channels, 2 * channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(2 * channels * ((size - 4) // 4) ** 2, 128), nn.ReLU(), nn.Linear(128, _CLASSES),
    )  # fmt: skip


def _encoder(
    width: int, heads: int, batch: int, context: int, *, vocab: int = 2048, precision: Precision = "fp32"
) -> Specimen:
    return _training(
        lambda: Encoder(vocab, context, width, heads),
        lambda: torch.randint(vocab, (batch, context)),
        "adamw",
        precision,
    )


def _recurrent(cell: type[nn.LSTM | nn.GRU], width: int, layers: int, batch: int, context: int) -> Specimen:
    return _training(
        lambda: Recurrent(cell, 2000, width, layers), lambda: torch.randint(2000, (batch, context)), "rmsprop"
    )


def _attention(batch: int, heads: int, context: int, head_dim: int, *, is_causal: bool) -> Specimen:
    shape = (batch, heads, context, head_dim)
    return _operation(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=is_causal), shape, shape, shape
    )


def _recurrence(tokens: int, batch: int, width: int) -> Specimen:
    """An LSTM layer alone; its weights are small enough to stay in the caches."""

    def make() -> Step:
        cell = nn.LSTM(width, width)
        x, gradient = torch.randn(tokens, batch, width, requires_grad=True), torch.randn(tokens, batch, width)

        def step(entering: Callable[[Phase], object]) -> None:
            entering("forward")
            result = cell(x)[0]
            entering("backward")
            torch.autograd.grad(result, [x, *cell.parameters()], gradient)

        return step

    return Specimen(make)


def _convolution(
    batch: int, channels: int, results: int, size: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> Specimen:
    return _operation(
        lambda x, w: F.conv2d(x, w, stride=stride, padding=kernel // 2, groups=groups),
        (batch, channels, size, size),
        (results, channels // groups, kernel, kernel),
    )


def _product(rows: int, inner: int, columns: int, dtype: torch.dtype = torch.float32) -> Specimen:
    return _operation(F.linear, (rows, inner), (columns, inner), dtype=dtype)


_STEPS: dict[str, Specimen] = {
    "gpt 2x64": _gpt(2, 64, 8, 64, 1024),
    "gpt 2x128": _gpt(2, 128, 4, 128, 2048),
    "gpt 2x256": _gpt(2, 256, 2, 256, 4096),
    "gpt 1x512": _gpt(1, 512, 1, 512, 8192),
    "gpt 2x384": _gpt(2, 384, 8, 64, 4096),
    "gpt 1x160": _gpt(1, 160, 2, 512, 512),
    "gpt 2x192 muon": _gpt(2, 192, 2, 96, 1024, optimizer="muon"),
    "perceptron 16": _perceptron(16, 32, 64, 64, _CLASSES, optimizer="adamw"),
    "perceptron 512": _perceptron(64, 256, 512, 512, _CLASSES, optimizer="adam"),
    "perceptron 1536": _perceptron(128, 800, 1536, 1536, 100, optimizer="adamw"),
    "perceptron 2048": _perceptron(8, 1024, 2048, 512, 100, optimizer="momentum"),
    "pooled 16": _images(32, 32, lambda: _pooled(16, 32), "sgd"),
    "pooled 40": _images(8, 64, lambda: _pooled(40, 64), "adam"),
    "residual 16": _images(16, 32, lambda: residual_network(16), "momentum"),
    "residual 40": _images(8, 40, lambda: residual_network(40), "adamw"),
    "encoder 128": _encoder(128, 4, 8, 64),
    "encoder 256": _encoder(256, 4, 4, 160),
    "encoder 64 bf16": _encoder(64, 4, 4, 64, vocab=512, precision="bf16"),
    "lstm 128": _recurrent(nn.LSTM, 128, 1, 16, 32),
    "lstm 256": _recurrent(nn.LSTM, 256, 2, 8, 48),
    "gru 96": _recurrent(nn.GRU, 96, 1, 8, 16),
}

_PRODUCTS = (
    (16, 64, 64), (64, 64, 256), (64, 256, 64), (256, 128, 128), (256, 64, 512), (512, 512, 128), (512, 128, 512),
    (128, 1024, 1024), (64, 2048, 2048), (1024, 256, 256), (1024, 64, 1024), (1024, 256, 4096), (512, 512, 2048),
    (2048, 128, 128), (1024, 1024, 1024), (2048, 512, 512), (32, 512, 512), (8, 256, 1024), (256, 768, 3072),
    (512, 96, 8192), (4, 64, 16), (1, 512, 512), (256, 320, 10),
)  # fmt: skip
_ATTENTIONS = (
    (8, 2, 64, 32), (4, 4, 128, 64), (2, 4, 256, 64), (1, 8, 512, 64), (8, 4, 128, 32), (4, 2, 256, 32), (2, 8, 384, 48),
    (4, 8, 32, 64), (1, 4, 1024, 64),
)  # fmt: skip
_CONVOLUTIONS = (
    (16, 3, 16, 32, 3), (32, 3, 32, 32, 5), (16, 16, 16, 32, 3), (16, 32, 32, 16, 3), (16, 64, 64, 8, 3),
    (8, 64, 64, 16, 1), (8, 128, 128, 8, 3), (32, 16, 32, 16, 3), (16, 24, 24, 24, 3), (4, 64, 128, 32, 3),
    (8, 48, 48, 32, 3), (8, 24, 24, 40, 3), (8, 48, 96, 20, 3), (16, 6, 16, 14, 5), (8, 256, 256, 8, 3),
    (2, 64, 64, 56, 3),
)  # fmt: skip
_RECURRENCES = ((20, 32, 64), (48, 32, 192), (32, 16, 320), (16, 4, 512))
_BF16 = ((64, 256, 256), (512, 256, 512), (256, 1024, 1024))

_OPERATIONS: dict[str, Specimen] = {
    **{f"product {shape}": _product(*shape) for shape in _PRODUCTS},
    **{f"product {shape} bf16": _product(*shape, dtype=torch.bfloat16) for shape in _BF16},
    "product (64, 128, 128) fp16": _product(64, 128, 128, dtype=torch.float16),
    "batched (32, 64, 64, 64)": _operation(torch.bmm, (32, 64, 64), (32, 64, 64)),
    "batched (8, 256, 128, 256)": _operation(torch.bmm, (8, 256, 128), (8, 128, 256)),
    "batched (16, 128, 32, 128)": _operation(torch.bmm, (16, 128, 32), (16, 32, 128)),
    **{f"causal attention {shape}": _attention(*shape, is_causal=True) for shape in _ATTENTIONS},
    **{f"attention {shape}": _attention(*shape, is_causal=False) for shape in _ATTENTIONS[::2]},
    **{f"convolution {shape}": _convolution(*shape) for shape in _CONVOLUTIONS},
    **{f"recurrence {shape}": _recurrence(*shape) for shape in _RECURRENCES},
    "convolution of patches": _operation(
        lambda x, w: F.conv2d(x, w, stride=8), (4, 3, 96, 96), (192, 3, 8, 8)
    ),
    "convolution by halves": _convolution(8, 32, 64, 32, 3, stride=2),
    "convolution by channel": _convolution(8, 48, 48, 32, 3, groups=48),
    "convolution by group": _convolution(8, 64, 64, 16, 3, groups=4),
    "convolution of sequences": _operation(
        lambda x, w: F.conv1d(x, w, padding=1), (4, 80, 400), (128, 80, 3)
    ),
    "convolution of a stem": _convolution(4, 3, 64, 64, 7, stride=2),
}

SPECIMENS: dict[str, Specimen] = {**_STEPS, **_OPERATIONS}
"""By name."""
