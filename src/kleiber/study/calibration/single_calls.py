"""Single operations over shapes, with the gradients of all they take."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor, nn

from kleiber.cost.operations import Phase
from kleiber.study.calibration.specimen import Specimen, Step

__all__ = ["SINGLE_CALLS"]


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


def _attention(batch: int, heads: int, context: int, head_dim: int, *, is_causal: bool) -> Specimen:
    shape = (batch, heads, context, head_dim)
    return _operation(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=is_causal), shape, shape, shape
    )


def _batched(batch: int, rows: int, columns: int, inner: int) -> Specimen:
    return _operation(torch.bmm, (batch, rows, inner), (batch, inner, columns))


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


_PRODUCTS = (
    (16, 64, 64), (64, 64, 256), (64, 256, 64), (256, 128, 128), (256, 64, 512), (512, 512, 128), (512, 128, 512),
    (128, 1024, 1024), (64, 2048, 2048), (1024, 256, 256), (1024, 64, 1024), (768, 256, 3072), (512, 512, 2048),
    (2048, 128, 128), (1024, 1024, 1024), (2048, 512, 512), (32, 512, 512), (8, 256, 1024), (192, 768, 2304),
    (512, 96, 8192), (4, 64, 16), (1, 512, 512), (256, 320, 10), (12, 96, 288), (6, 192, 512),
)  # fmt: skip
_ATTENTIONS = (
    (8, 2, 64, 32), (4, 4, 128, 64), (2, 4, 256, 64), (1, 8, 512, 64), (8, 4, 128, 32), (4, 2, 256, 32), (2, 8, 384, 48),
    (4, 8, 32, 64), (1, 3, 800, 64),
)  # fmt: skip
_CONVOLUTIONS = (
    (16, 3, 16, 32, 3), (32, 3, 32, 32, 5), (16, 16, 16, 32, 3), (16, 32, 32, 16, 3), (16, 64, 64, 8, 3),
    (8, 64, 64, 16, 1), (8, 128, 128, 8, 3), (32, 16, 32, 16, 3), (16, 24, 24, 24, 3), (4, 64, 128, 32, 3),
    (8, 48, 48, 32, 3), (8, 24, 24, 40, 3), (8, 48, 96, 20, 3), (16, 6, 16, 14, 5), (8, 256, 256, 8, 3),
    (2, 64, 64, 56, 3),
)  # fmt: skip
_RECURRENCES = ((20, 32, 64), (48, 32, 192), (32, 16, 320), (16, 4, 512))
_BATCHED = (
    (32, 64, 64, 64), (8, 256, 256, 128), (16, 128, 128, 32), (24, 160, 160, 160), (12, 256, 256, 256), (3, 384, 384, 384),
    (6, 192, 384, 192),
)  # fmt: skip
_BF16 = ((64, 256, 256), (512, 256, 512), (256, 1024, 1024))

_PASSES: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "silu": F.silu,
    "relu": F.relu,
    "layer norm": lambda x: F.layer_norm(x, x.shape[-1:]),
    "softmax": lambda x: F.softmax(x, -1),
    "group norm": lambda x: F.group_norm(x.view(4, 16, -1), 8),
    "pooling": lambda x: F.max_pool2d(x.view(4, 16, -1, 64), 2),
    "wide pooling": lambda x: F.max_pool2d(x.view(4, 16, -1, 64), 3, 2, 1),
    "copy": lambda x: x.t().contiguous(),
}
_SIZES = {"small": (128, 192), "middling": (512, 640), "large": (2048, 1024)}

SINGLE_CALLS: dict[str, Specimen] = {
    **{f"product {shape}": _product(*shape) for shape in _PRODUCTS},
    **{f"product {shape} bf16": _product(*shape, dtype=torch.bfloat16) for shape in _BF16},
    "product (64, 128, 128) fp16": _product(64, 128, 128, dtype=torch.float16),
    **{f"batched {shape}": _batched(*shape) for shape in _BATCHED},
    **{f"causal attention {shape}": _attention(*shape, is_causal=True) for shape in _ATTENTIONS},
    **{f"attention {shape}": _attention(*shape, is_causal=False) for shape in _ATTENTIONS[::2]},
    **{f"convolution {shape}": _convolution(*shape) for shape in _CONVOLUTIONS},
    **{f"recurrence {shape}": _recurrence(*shape) for shape in _RECURRENCES},
    **{
        f"{name} {size}": _operation(apply, shape)
        for name, apply in _PASSES.items()
        for size, shape in _SIZES.items()
    },
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
"""By name."""
