"""What torch's own layers expect of their input, checked before they run.

On fake tensors some layers take what they would refuse of real ones, and say less when they refuse.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin

__all__ = ["broken_expectation", "shape_text"]


def broken_expectation(module: nn.Module, value: Tensor) -> str | None:
    """Return a clause on what a layer expects and gets; None where it is content, or is not one of torch's.

    Example:
        >>> import torch
        >>> broken_expectation(nn.Linear(2304, 120), torch.empty(8, 4096, device="meta"))
        'expects 2,304 features and gets 4,096, in an input of 8x4096'
        >>> broken_expectation(nn.Embedding(10, 4), torch.empty(8, 3))
        'expects whole numbers (int64) and gets float32, in an input of 8x3'
    """
    for kind, check in _CHECKS.items():
        # A subclass with a forward of its own, or one that takes its sizes from its first input, expects other things.
        if (
            isinstance(module, kind)
            and type(module).forward is kind.forward
            and not isinstance(module, LazyModuleMixin)
        ):
            clause = check(module, value)
            return clause and f"{clause}, in an input of {shape_text(value)}"
    return None


def shape_text(value: Tensor) -> str:
    """Return a shape as it is typed behind `--input`.

    Example:
        >>> import torch
        >>> shape_text(torch.empty(8, 3, 32, 32))
        '8x3x32x32'
    """
    return "x".join(map(str, value.shape)) or "a single number"


def _differs(what: str, expected: int, got: int) -> str | None:
    return None if expected == got else f"expects {expected:,} {what} and gets {got:,}"


def _is_not_floating(value: Tensor) -> str | None:
    if value.is_floating_point() or value.is_complex():
        return None
    return f"expects numbers of floating point and gets {_dtype(value)}"


def _has_not_rank(value: Tensor, *ranks: int) -> str | None:
    if value.ndim in ranks:
        return None
    return f"expects {' or '.join(map(str, ranks))} dimensions and gets {value.ndim}"


def _linear(module: Any, value: Tensor) -> str | None:
    if value.ndim == 0:
        return "expects features and gets a single number"
    return _is_not_floating(value) or _differs("features", module.in_features, value.shape[-1])


def _convolution(module: Any, value: Tensor) -> str | None:
    rank = len(module.kernel_size) + 1
    clause = _is_not_floating(value) or _has_not_rank(value, rank + 1, rank)
    return clause or _differs("channels", module.in_channels, value.shape[-rank])


def _batch_norm(*ranks: int) -> Callable[[Any, Tensor], str | None]:
    def check(module: Any, value: Tensor) -> str | None:
        clause = _has_not_rank(value, *ranks)
        return clause or _differs("channels", module.num_features, value.shape[1])

    return check


def _trailing(module: Any, value: Tensor) -> str | None:
    expected = tuple(module.normalized_shape)
    if tuple(value.shape[-len(expected) :]) == expected:
        return None
    sizes = "x".join(map(str, expected))
    return f"expects {sizes} as its last dimensions"


def _embedding(_: Any, value: Tensor) -> str | None:
    if value.is_floating_point() or value.is_complex():
        return f"expects whole numbers (int64) and gets {_dtype(value)}"
    return None


def _recurrent(module: Any, value: Tensor) -> str | None:
    clause = _is_not_floating(value) or _has_not_rank(value, 3, 2)
    return clause or _differs("features", module.input_size, value.shape[-1])


def _dtype(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


_CHECKS: dict[type[nn.Module], Callable[[Any, Tensor], str | None]] = {
    nn.Linear: _linear,
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.Conv3d: _convolution,
    nn.ConvTranspose1d: _convolution,
    nn.ConvTranspose2d: _convolution,
    nn.ConvTranspose3d: _convolution,
    nn.BatchNorm1d: _batch_norm(2, 3),
    nn.BatchNorm2d: _batch_norm(4),
    nn.BatchNorm3d: _batch_norm(5),
    nn.LayerNorm: _trailing,
    nn.RMSNorm: _trailing,
    nn.Embedding: _embedding,
    nn.RNN: _recurrent,
    nn.LSTM: _recurrent,
    nn.GRU: _recurrent,
}
