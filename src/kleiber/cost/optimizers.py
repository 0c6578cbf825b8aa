"""What an optimizer adds to a training step: state, temporary memory, operations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from kleiber.cost.usage import OPTIMIZERS, OptimizerName
from kleiber.runs import OptimizerRecipe

__all__ = ["MUON_ITERATIONS", "OptimizerCost", "optimizer_cost", "optimizer_of"]

_FP32_BYTES = 4
MUON_ITERATIONS = 5
"""Steps of Muon's Newton-Schulz iteration."""

_LOOP_TEMPORARIES: dict[OptimizerName, int] = {
    "sgd": 0,
    "momentum": 0,
    "adagrad": 1,
    "rmsprop": 1,
    "rmsprop_momentum": 1,
    "adam": 2,
    "adamw": 2,
    "muon": 2,  # those of AdamW, for what Muon leaves to it
}
"""Tensors as large as a parameter that torch's loop over parameters holds: the root of the second moment, and that root
over its bias correction."""


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
    name: OptimizerName,
    num_params: int,
    hidden_shapes: Sequence[tuple[int, int]],
    *,
    loop_sizes: Sequence[int] = (),
) -> OptimizerCost:
    """Return what the optimizer needs, with its state in fp32.

    Muon keeps one momentum for each hidden matrix and leaves the other parameters to AdamW; it stacks all matrices of
    one shape (R rows, C >= R columns after turning), holds the stack three times during the iteration beside two
    squares of R and the last stack's result, and makes `x x^T`, its square and its product with `x` five times.

    Args:
        name: As in `Usage`.
        num_params: All parameters.
        hidden_shapes: Rows and columns of every hidden matrix in their order, fused ones taken apart; for Muon alone.
        loop_sizes: Values of each parameter that is stepped by itself, in their order, as torch does by default on a
            CPU; none for a fused kernel, as in `kleiber train`: it holds nothing.

    Source:
        Jordan 2024, "Muon: an optimizer for hidden layers".

    Example:
        >>> optimizer_cost("adamw", 100, [(4, 8)]).state_bytes, optimizer_cost("muon", 100, [(4, 8)]).state_bytes
        (800, 672)
        >>> optimizer_cost("adamw", 100, [], loop_sizes=[32]).temporary_bytes
        256
    """
    temporary = _loop_bytes(_LOOP_TEMPORARIES[name], loop_sizes)
    state = _FP32_BYTES * OPTIMIZERS[name] * num_params
    if name != "muon":
        return OptimizerCost(state, temporary, 0)
    stacks = Counter((min(shape), max(shape)) for shape in hidden_shapes)
    return OptimizerCost(
        state_bytes=state - _FP32_BYTES * sum(rows * columns for rows, columns in hidden_shapes),
        temporary_bytes=max(temporary, _stacks_bytes(stacks)),
        flops=sum(MUON_ITERATIONS * count * (4 * R * R * C + 2 * R**3) for (R, C), count in stacks.items()),
    )


def optimizer_of(recipe: OptimizerRecipe) -> OptimizerName:
    """Return the name under which a usage knows a recipe's optimizer: momentum keeps a value more of each parameter.

    Example:
        >>> optimizer_of(OptimizerRecipe(name="sgd", momentum=0.9)), optimizer_of(OptimizerRecipe(name="adam"))
        ('momentum', 'adam')
    """
    if recipe.name == "sgd":
        return "momentum" if recipe.momentum else "sgd"
    if recipe.name == "rmsprop":
        return "rmsprop_momentum" if recipe.momentum else "rmsprop"
    return recipe.name


def _loop_bytes(num_temporaries: int, sizes: Sequence[int]) -> int:
    """Return the most that a loop holds: a parameter's temporaries beside the last one of the parameter before."""
    if not num_temporaries:
        return 0
    pairs = zip((0, *sizes), sizes, strict=False)
    return max((_FP32_BYTES * (before + num_temporaries * size) for before, size in pairs), default=0)


def _stacks_bytes(stacks: Counter[tuple[int, int]]) -> int:
    """Return the most that Muon holds, stack after stack."""
    most, last_update = 0, 0
    for (R, C), count in stacks.items():
        most = max(most, _FP32_BYTES * (last_update + count * (3 * R * C + 2 * R * R)))
        last_update = count * R * C
    return most
