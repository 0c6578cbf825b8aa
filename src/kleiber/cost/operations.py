"""One kind of work inside a step: how many operations it does and how many bytes it moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["OPERATION_KINDS", "Operation", "OperationKind", "Phase"]

OperationKind = Literal[
    "matmul", "attention", "convolution", "recurrent", "elementwise", "normalization", "softmax", "reduction",
    "pooling", "lookup", "copy", "optimizer",
]  # fmt: skip
Phase = Literal["forward", "backward", "optimizer"]

OPERATION_KINDS: dict[OperationKind, str] = {
    "matmul": "products of matrices, biases included",
    "attention": "fused scores, softmax and product with the values",
    "convolution": "sliding products",
    "recurrent": "fused layers of LSTM, GRU and plain recurrence",
    "elementwise": "arithmetic and activations, value by value",
    "normalization": "layer, batch, group and root-mean-square norms",
    "softmax": "softmax and log-softmax, with or without the loss",
    "reduction": "sums, means, maxima, norms of gradients",
    "pooling": "pooling and resampling",
    "lookup": "embedding tables, gathers, scatters",
    "copy": "new layouts, dtypes and joined tensors",
    "optimizer": "the update of the weights",
}


@dataclass(frozen=True)
class Operation:
    """Calls of one operation with the same sizes, in one phase of a step and one module."""

    name: str
    """As torch names it without namespace and overload, such as `addmm`."""
    kind: OperationKind
    phase: Phase
    module: str
    """Dotted path of the module that called it, or whose backward pass it is; empty is the model itself."""
    shape: tuple[int, ...]
    """Of a matmul: batch, rows, columns, inner; of others the shape of the (largest) result."""
    flops: int
    """Of one call, 2 per multiply-add; matrix products, attention and convolutions only [FLOP]."""
    moved_bytes: int
    """Of one call: every tensor read once and written once."""
    dtype: str = "fp32"
    """Of the result."""
    num_calls: int = 1
    """In a step."""

    @property
    def total_flops(self) -> int:
        """Of all calls [FLOP].

        Example:
            >>> Operation("mm", "matmul", "forward", "fc", (1, 8, 4, 2), 128, 224, num_calls=3).total_flops
            384
        """
        return self.num_calls * self.flops

    @property
    def total_moved_bytes(self) -> int:
        """Of all calls."""
        return self.num_calls * self.moved_bytes
