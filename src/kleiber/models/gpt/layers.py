"""The operations of each layer of a `gpt` on one micro-batch, as functions of its sizes.

Legend: B sequences, T tokens of each, N query heads, J query and key heads together, H features of a head.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from kleiber.cost.flops import FlopConvention
from kleiber.cost.operations import Operation, OperationKind, Phase
from kleiber.cost.usage import PRECISIONS, Usage
from kleiber.models.gpt import passes
from kleiber.models.gpt.spec import GPTSpec

__all__ = ["TOKEN_BYTES", "Layers"]

TOKEN_BYTES = 8
_FP32_BYTES = 4


@dataclass(frozen=True)
class Layers:
    """A micro-batch, and in which phase of a step and which module it is.

    In training at half precision the residual stream, norms and rotation stay in fp32 (wide) and what products take
    and give is half of that (narrow), with copies between the two; all that is served is narrow.
    """

    spec: GPTSpec
    usage: Usage
    B: int
    T: int
    convention: FlopConvention
    phase: Phase
    module: str

    @property
    def narrow_bytes(self) -> int:
        """Of a value in a product."""
        return PRECISIONS[self.usage.precision]

    @property
    def wide_bytes(self) -> int:
        """Of a value of the residual stream."""
        return _FP32_BYTES if self.usage.mode == "train" else self.narrow_bytes

    @property
    def stream(self) -> tuple[int, int, int]:
        """Shape of the residual stream."""
        return (self.B, self.T, self.spec.width)

    @property
    def turned(self) -> tuple[int, int, int, int]:
        """Shape of query and key heads."""
        return (self.B, self.T, self.spec.num_heads + self.spec.num_kv_heads, self.spec.head_dim)

    def one(
        self, name: str, kind: OperationKind, shape: tuple[int, ...], moved_bytes: int, *, flops: int = 0
    ) -> Operation:
        """Return an operation of this phase and module."""
        is_narrow = kind in {"matmul", "attention"} or self.wide_bytes == self.narrow_bytes
        dtype = self.usage.precision if is_narrow else "fp32"
        return Operation(name, kind, self.phase, self.module, shape, flops, moved_bytes, dtype)

    def product(self, rows: int, columns: int, inner: int) -> Operation:
        """Return a product of two matrices."""
        moved = self.narrow_bytes * (rows * inner + inner * columns + rows * columns)
        return self.one("mm", "matmul", (1, rows, columns, inner), moved, flops=2 * rows * columns * inner)

    def linear(self, columns: int, inner: int) -> Iterator[Operation]:
        """Yield a product with weights, or its two gradients; half precision casts the weights to and fro."""
        tokens = self.B * self.T
        if self.phase == "forward":
            yield from self.casts((columns, inner))
            yield self.product(tokens, columns, inner)
        else:
            yield self.product(columns, inner, tokens)
            yield self.product(tokens, inner, columns)
            yield from self.casts((columns, inner))

    def casts(self, *shapes: tuple[int, ...]) -> Iterator[Operation]:
        """Yield copies between the wide and the narrow dtype, where they differ."""
        if self.wide_bytes != self.narrow_bytes:
            for shape in shapes:
                yield self.one("_to_copy", "copy", shape, (self.wide_bytes + self.narrow_bytes) * prod(shape))

    def norm(self) -> Iterator[Operation]:
        """Yield one root-mean-square norm of the residual stream."""
        rows = passes.NORM_FORWARD if self.phase == "forward" else passes.NORM_BACKWARD
        yield from self._each(rows, self.stream, (self.stream, (self.B, self.T, 1)), self.wide_bytes)

    def rotary(self) -> Iterator[Operation]:
        """Yield the norm and rotation of query and key heads."""
        rows = passes.ROTARY_FORWARD if self.phase == "forward" else passes.ROTARY_BACKWARD
        memories = (self.turned, self.turned[:3], self.turned[1:])
        yield from self._each(rows, self.turned, memories, self.wide_bytes)

    def mlp(self) -> Iterator[Operation]:
        """Yield what is between the products of the MLP."""
        rows = passes.MLP_FORWARD if self.phase == "forward" else passes.MLP_BACKWARD
        shape = (self.B, self.T, self.spec.mlp_width)
        yield from self._each(rows, shape, (shape,), self.narrow_bytes)

    def attention(self) -> Operation:
        """Return fused causal attention, or its gradients."""
        spec, tokens, is_forward = self.spec, self.B * self.T, self.phase == "forward"
        # Forward: query, result, key, value. Backward: those and their gradients. And the log-sum of each row.
        values = tokens * 2 * (spec.attn_width + spec.kv_width) * (1 if is_forward else 2)
        square = 4 * tokens * self.T * spec.attn_width
        flops = square if self.convention == "full" else square // 2
        return self.one(
            "scaled_dot_product_attention" if is_forward else "scaled_dot_product_attention_backward",
            "attention",
            (self.B, spec.num_heads, self.T, spec.head_dim),
            self.narrow_bytes * values + _FP32_BYTES * tokens * spec.num_heads,
            flops=flops if is_forward else 2 * flops,
        )

    def residual(self) -> Operation:
        """Return the sum of the residual stream and a branch, or of their gradients."""
        branch_bytes = self.narrow_bytes if self.phase == "forward" else self.wide_bytes
        return self.one(
            "add", "elementwise", self.stream, (2 * self.wide_bytes + branch_bytes) * prod(self.stream)
        )

    def _each(
        self,
        rows: passes.Passes,
        shape: tuple[int, ...],
        memories: tuple[tuple[int, ...], ...],
        value_bytes: int,
    ) -> Iterator[Operation]:
        sizes = [value_bytes * prod(memory) for memory in memories]
        for name, kind, counts in rows:
            moved = sum(count * size for count, size in zip(counts, sizes, strict=True))
            is_whole = counts[0] and kind != "reduction"
            yield self.one(name, kind, shape if is_whole else memories[1], moved)
