"""What an optimizer adds to a training step: state, temporary memory, operations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["MUON_ITERATIONS", "OptimizerCost", "optimizer_cost"]

_FP32_BYTES = 4
MUON_ITERATIONS = 5
"""Steps of Muon's Newton-Schulz iteration."""


@dataclass(frozen=True)
class OptimizerCost:
    """Of one optimizer."""

    state_bytes: int
    """Kept from step to step."""
    temporary_bytes: int
    """Most that is held inside a step, beside weights, gradients and state."""
    flops: int
    """Matrix products a step [FLOP]."""


def optimizer_cost(
    name: Literal["adamw", "muon"], num_params: int, hidden_shapes: Sequence[tuple[int, int]]
) -> OptimizerCost:
    """Return what the optimizer needs, with its state in fp32.

    AdamW keeps two moments a parameter. Muon keeps one momentum for each hidden matrix and leaves the other
    parameters to AdamW; it stacks all matrices of one shape (R rows, C >= R columns after turning), holds the
    stack three times during the iteration beside three squares of R, and makes `x x^T`, its square and its product
    with `x` five times.

    Args:
        name: As in `OptimizerRecipe`.
        num_params: All parameters.
        hidden_shapes: Rows and columns of every hidden matrix, fused ones taken apart.

    Source:
        Jordan 2024, "Muon: an optimizer for hidden layers".

    Example:
        >>> optimizer_cost("adamw", 100, [(4, 8)]).state_bytes, optimizer_cost("muon", 100, [(4, 8)]).state_bytes
        (800, 672)
    """
    if name == "adamw":
        return OptimizerCost(2 * _FP32_BYTES * num_params, 0, 0)
    hidden = sum(rows * columns for rows, columns in hidden_shapes)
    stacks = Counter((min(shape), max(shape)) for shape in hidden_shapes)
    return OptimizerCost(
        state_bytes=_FP32_BYTES * (2 * (num_params - hidden) + hidden),
        temporary_bytes=max(
            (_FP32_BYTES * count * 3 * (R * C + R * R) for (R, C), count in stacks.items()), default=0
        ),
        flops=sum(MUON_ITERATIONS * count * (4 * R * R * C + 2 * R**3) for (R, C), count in stacks.items()),
    )
