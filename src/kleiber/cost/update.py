"""What a training step does once its gradients are there, in closed form, without torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from kleiber.cost.operations import Operation, OperationKind
from kleiber.cost.optimizers import MUON_ITERATIONS
from kleiber.cost.usage import OPTIMIZERS, OptimizerName, Usage

__all__ = ["update_operations"]

_FP32_BYTES = 4

_MUON_PASSES: tuple[tuple[str, OperationKind, int], ...] = (
    ("stack", "optimizer", 2),
    ("lerp_", "optimizer", 3),
    ("lerp_", "optimizer", 3),
    ("linalg_vector_norm", "optimizer", 1),
    ("div", "optimizer", 2),
    ("_foreach_add_", "optimizer", 3),
)
"""Over all matrices of one shape: names, kinds, and how often the values are read or written."""
_FUSED: dict[OptimizerName, str] = {"muon": "adamw", "momentum": "sgd", "rmsprop_momentum": "rmsprop"}
"""Kernels that are not called as the optimizer is."""


def update_operations(
    num_params: int, hidden_shapes: Sequence[tuple[int, int]], usage: Usage
) -> Iterator[Operation]:
    """Yield what is done with all gradients: added up over micro-batches, clipped, turned into a step.

    Fused optimizers read weights, gradients and state and write weights and state; Muon works on the hidden matrices,
    all of one shape together, and leaves the rest to AdamW.

    Args:
        num_params: Of the model.
        hidden_shapes: Rows and columns of every matrix that Muon takes, fused ones taken apart.
        usage: Accumulation and optimizer; weights, gradients and state are in fp32.
    """
    if usage.accumulation > 1:
        moved = 3 * _FP32_BYTES * num_params
        num_calls = usage.accumulation - 1
        yield Operation("add_", "elementwise", "backward", "", (num_params,), 0, moved, num_calls=num_calls)
    yield _pass("_foreach_norm", num_params, 1)
    yield _pass("_foreach_mul_", num_params, 2)
    num_hidden = 0
    if usage.optimizer == "muon":
        stacks = Counter((min(shape), max(shape)) for shape in hidden_shapes)
        for (rows, columns), count in stacks.items():
            num_hidden += count * rows * columns
            yield from _muon(count, rows, columns)
    yield _pass(
        f"_fused_{_FUSED.get(usage.optimizer, usage.optimizer)}_",
        num_params - num_hidden,
        3 + 2 * OPTIMIZERS[usage.optimizer],
    )


def _pass(name: str, num_values: int, count: int, kind: OperationKind = "optimizer") -> Operation:
    return Operation(name, kind, "optimizer", "", (num_values,), 0, count * _FP32_BYTES * num_values)


def _muon(count: int, rows: int, columns: int) -> Iterator[Operation]:
    """Momentum of a stack of matrices, its orthogonalization, the step: rows <= columns."""
    for name, kind, times in _MUON_PASSES:
        yield _pass(name, count * rows * columns, times, kind)
    wide, square = rows * columns, rows * rows
    for name, shape, values in (
        ("bmm", (count, rows, rows, columns), wide + square),
        ("baddbmm", (count, rows, rows, rows), 2 * square),
        ("baddbmm", (count, rows, columns, rows), 2 * wide + square),
    ):
        flops = 2 * shape[0] * shape[1] * shape[2] * shape[3]
        moved = _FP32_BYTES * count * values
        yield Operation(name, "matmul", "optimizer", "", shape, flops, moved, num_calls=MUON_ITERATIONS)
