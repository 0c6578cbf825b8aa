"""Small training steps of several kinds: the times of calls as they are inside steps, caches as a step leaves them.

What is predicted later is other models: nothing here is of a size that somebody would train.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor, nn

from kleiber.cost.operations import Phase
from kleiber.cost.trace.training_step import Stepper, build_optimizer, prepare_, run_step
from kleiber.cost.usage import OptimizerName, Precision, Usage
from kleiber.models import build
from kleiber.models.gpt.spec import GPTSpec
from kleiber.models.subject import Inputs
from kleiber.runs import OptimizerRecipe
from kleiber.study.calibration.modules import Encoder, Recurrent, residual_network
from kleiber.study.calibration.specimen import Specimen, Step
from kleiber.train.optimizer import Optimizer

__all__ = ["STEPS", "trained_gpt"]

_CLIP_NORM = 1.0
_RATE = 1e-9
"""Of the peak rates: what a step needs is wanted, not its effect."""
_CLASSES = 10


def _gpt(
    depth: int, width: int, batch: int, context: int, vocab: int, *, optimizer: OptimizerName = "adamw"
) -> Specimen:
    spec = GPTSpec.from_dial({"depth": depth, "width": width}, vocab_size=vocab, context=context)
    return Specimen(trained_gpt(spec, batch, optimizer), is_step=True)


def trained_gpt(spec: GPTSpec, batch: int, optimizer: OptimizerName) -> Callable[[], Step]:
    """Return what builds a `gpt` and its step as `kleiber train` makes it: clipped, the update fused.

    Args:
        spec: The model.
        batch: Sequences of its whole context.
        optimizer: AdamW or Muon.
    """

    def make() -> Step:
        module = build(spec).to(torch.get_default_device())
        recipe = OptimizerRecipe.model_validate({"name": optimizer})
        updates = Optimizer(module, module.param_groups(), recipe)
        tokens = torch.randint(spec.vocab_size, (batch, spec.context + 1))

        def step(entering: Callable[[Phase], object]) -> None:
            entering("forward")
            loss = F.cross_entropy(module(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
            entering("backward")
            loss.backward()  # type: ignore[no-untyped-call] # torch leaves it unannotated
            entering("optimizer")
            updates.clip_(_CLIP_NORM)
            updates.step(_RATE)
            updates.zero_grad()

        return step

    return make


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
        _rest_(updates)
        return lambda entering: run_step(module, inputs, _first_class, updates, usage, entering=entering)

    return Specimen(make, is_step=True)


def _rest_(optimizer: Stepper) -> None:
    """Let an optimizer move next to nothing: what is learnt by heart has gradients too small for quick arithmetic."""
    if isinstance(optimizer, torch.optim.Optimizer):
        for group in optimizer.param_groups:
            group["lr"] = _RATE


def _first_class(logits: Tensor) -> Tensor:
    rows = logits.flatten(0, -2)
    return F.cross_entropy(rows, torch.zeros(len(rows), dtype=torch.int64, device=rows.device))


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


STEPS: dict[str, Specimen] = {
    "gpt 2x64": _gpt(2, 64, 8, 64, 1024),
    "gpt 2x128": _gpt(2, 128, 4, 128, 2048),
    "gpt 2x256": _gpt(2, 256, 2, 256, 4096),
    "gpt 1x512": _gpt(1, 512, 1, 256, 8192),
    "gpt 2x384": _gpt(2, 384, 4, 64, 4096),
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
    "encoder 256": _encoder(256, 4, 2, 160),
    "encoder 64 bf16": _encoder(64, 4, 4, 64, vocab=512, precision="bf16"),
    "lstm 128": _recurrent(nn.LSTM, 128, 1, 16, 32),
    "lstm 256": _recurrent(nn.LSTM, 256, 2, 8, 48),
    "gru 96": _recurrent(nn.GRU, 96, 1, 8, 16),
    "gru 64": _recurrent(nn.GRU, 64, 1, 4, 24),
    "gpt 2x32": _gpt(2, 32, 4, 32, 256),
    "perceptron 128": _perceptron(32, 100, 128, 128, _CLASSES, optimizer="adam"),
    "pooled 6": _images(4, 32, lambda: _pooled(6, 32), "adamw"),
    "pooled 20": _images(8, 40, lambda: _pooled(20, 40), "momentum"),
    "residual 12": _images(4, 64, lambda: residual_network(12), "sgd"),
    "residual 56": _images(1, 48, lambda: residual_network(56), "momentum"),
    "residual 8": _images(2, 32, lambda: residual_network(8), "adam"),
    "encoder 32": _encoder(32, 2, 4, 32, vocab=256),
    "lstm 32": _recurrent(nn.LSTM, 32, 1, 4, 16),
}
"""By name."""
