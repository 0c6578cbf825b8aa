"""What one call of a torch operation is: its kind, its operations, the bytes it moves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from kleiber.cost.flops import FlopConvention
from kleiber.cost.operations import OperationKind
from kleiber.cost.trace.operation_bytes import is_idle, moved_bytes, written_tensors
from kleiber.cost.trace.operation_flops import Call, call_flops
from kleiber.cost.trace.operation_kinds import kind_of, operation_name

__all__ = ["OperationSketch", "describe", "dtype_name"]

_DTYPES = {torch.float32: "fp32", torch.float64: "fp64", torch.bfloat16: "bf16", torch.float16: "fp16"}


@dataclass(frozen=True)
class OperationSketch:
    """One call, before it is known in which module and phase it was made."""

    kind: OperationKind
    shape: tuple[int, ...]
    """Of a product of matrices: batch, rows, columns, inner; of others the shape of the (largest) result."""
    flops: int
    """2 per multiply-add [FLOP]."""
    moved_bytes: int
    """Every tensor read once and written once."""
    dtype: str
    """Of the result."""


def describe(
    func: Any,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None,
    out: Any,
    *,
    convention: FlopConvention = "causal",
) -> OperationSketch | None:
    """Return what a call did, or None when it did no work: a view, an empty tensor, a question about one.

    Made for a `TorchDispatchMode`, over fake or real tensors. Inference mode hands composite operations over whole, whose
    FLOPs are then counted by running their parts once more: `no_grad` sees the parts themselves, and their memory.

    Args:
        func: The overload that was called.
        args: Its arguments.
        kwargs: Its keyword arguments.
        out: What it returned.
        convention: Whether causal attention counts half of its square.
    """
    call = Call(func, args, kwargs or {}, out)
    written = written_tensors(call)
    if not written or is_idle(call):
        return None
    kind, largest = kind_of(func), max(written, key=lambda tensor: tensor.numel())
    flops = call_flops(call, convention)
    shape = _matmul_shape(call, flops) if kind == "matmul" else tuple(largest.shape)
    return OperationSketch(kind, shape, flops, moved_bytes(call), dtype_name(largest.dtype))


def dtype_name(dtype: torch.dtype) -> str:
    """Return the short name of a dtype.

    Example:
        >>> dtype_name(torch.bfloat16), dtype_name(torch.int64)
        ('bf16', 'int64')
    """
    return _DTYPES.get(dtype) or str(dtype).removeprefix("torch.")


def _matmul_shape(call: Call, flops: int) -> tuple[int, int, int, int]:
    """Return batch, rows, columns and inner size; rows of a batch that meets one matrix are rows of one product."""
    result = call.results[0]
    rows, columns = (1, 1, *result.shape)[-2:] if result.ndim != 1 else (result.numel(), 1)
    if "linear" in operation_name(call.func):
        rows = result.numel() // max(columns, 1)
    batch = result.numel() // max(rows * columns, 1)
    return batch, rows, columns, flops // max(2 * batch * rows * columns, 1)
