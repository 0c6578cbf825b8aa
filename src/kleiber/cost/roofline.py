"""How long a step takes on a device that nobody measured: each operation by its slower limit, compute or bandwidth."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from kleiber.cost.communication import Communication, bubble_frac, communication_of
from kleiber.cost.devices import Device
from kleiber.cost.kernel_efficiency import (
    ATTENTION_BACKWARD_FRAC,
    EFFICIENCIES,
    FUSED_KINDS,
    FUSED_PASSES_FRAC,
    LAUNCH_S,
    SUSTAINED_FRAC,
    product_frac,
)
from kleiber.cost.layouts import BlockShape, Layout
from kleiber.cost.operations import Operation, OperationKind
from kleiber.cost.stages import Stage, pipeline_stages
from kleiber.cost.usage import Usage
from kleiber.runs import ParamCount

__all__ = ["Bound", "DeviceTime", "KindTime", "OperationTime", "operation_time", "step_time"]

Bound = Literal["compute", "bandwidth", "launch"]

_BLOCK_NAMES = {"blocks", "layers", "h"}
"""Of module lists, where a path does not number their entries."""


@dataclass(frozen=True)
class OperationTime:
    """Of all calls of one operation."""

    time_s: float
    bound: Bound
    """The largest of the three parts."""


@dataclass(frozen=True)
class KindTime:
    """Of all operations of one kind in a step, on one device."""

    kind: OperationKind
    time_s: float
    bound: Bound
    """Of most of that time."""


@dataclass(frozen=True)
class DeviceTime:
    """A step's time, and where it goes."""

    step_time_s: float
    compute_s: float
    """Of the busiest device, waiting left out."""
    communication_s: float
    """What does not hide behind computation."""
    bubble_frac: float
    """Part of the step, its update left out, in which pipeline stages wait."""
    by_kind: tuple[KindTime, ...]
    """Adds up to `compute_s`, longest first."""
    communication: Communication


def operation_time(operation: Operation, device: Device, *, is_fused: bool = False) -> OperationTime:
    """Return the time of all calls on an otherwise idle device.

    A call takes the longer of its arithmetic and its memory traffic, each at the efficiency of its kind, and the
    launch of its kernel.

    Args:
        operation: With the sizes that this device works on.
        device: A bandwidth that is not known bounds nothing.
        is_fused: Whether a compiler joins passes over memory into few kernels.

    Raises:
        RecipeError: The device has no peak for the dtype of the operation's arithmetic.

    Source:
        Williams, Waterman and Patterson 2009, "Roofline: an insightful visual performance model".

    Example:
        >>> from kleiber.cost.devices import find_device
        >>> add = Operation("add", "elementwise", "forward", "", (1000,), 0, 3_350_000_000, "bf16")
        >>> time = operation_time(add, find_device("h100-sxm"))
        >>> time.bound, round(time.time_s, 6)  # a millisecond of its memory at 0.85 of the peak
        ('bandwidth', 0.001179)
    """
    call_s, bound = _call_time(operation, _part(operation, 1), device, is_fused=is_fused)
    return OperationTime(operation.num_calls * call_s, bound)


class _Part(NamedTuple):
    """What one device does of one call."""

    shape: tuple[int, ...]
    flops: int
    moved_bytes: int


def _call_time(operation: Operation, part: _Part, device: Device, *, is_fused: bool) -> tuple[float, Bound]:
    reached = EFFICIENCIES[operation.kind]
    fused = FUSED_PASSES_FRAC if is_fused and operation.kind in FUSED_KINDS else 1.0
    compute_s = 0.0
    if part.flops:
        frac = reached.compute_frac * _shape_frac(operation, part.shape)
        compute_s = part.flops / (device.peak(operation.dtype)[1] * frac)
    rate = device.bandwidth_bytes_per_s
    memory_s = fused * part.moved_bytes / (rate * reached.bandwidth_frac) if rate else 0.0
    work_s, launch_s = max(compute_s, memory_s), fused * LAUNCH_S
    if work_s < launch_s:
        return work_s + launch_s, "launch"
    return work_s + launch_s, "compute" if compute_s >= memory_s else "bandwidth"


def _shape_frac(operation: Operation, shape: tuple[int, ...]) -> float:
    if operation.kind == "attention":
        return ATTENTION_BACKWARD_FRAC if operation.phase == "backward" else 1.0
    if operation.kind != "matmul" or len(shape) != 4:
        return 1.0
    return product_frac(*shape)


def step_time(
    operations: Iterable[Operation],
    device: Device,
    layout: Layout | None = None,
    *,
    usage: Usage,
    params: ParamCount,
    blocks: BlockShape | None = None,
    tokens_per_sample: int = 1,
    num_chunks: int = 1,
    is_fused: bool = False,
) -> DeviceTime:
    """Return the time of a step.

    Operations follow one another, as slow as whole steps were found to be (`SUSTAINED_FRAC`); the busiest stage of a
    pipeline sets the pace. Embedding, head and loss are split by `tp` as the blocks are.

    Args:
        operations: Of the whole model for one share of the batch: of a step with `rank_usage(usage, layout)`.
        device: One of them.
        layout: Checked by `check_layout`; None is one device.
        usage: Of the whole batch.
        params: Of the whole model.
        blocks: Of a Transformer.
        tokens_per_sample: Context of a text model.
        num_chunks: Of an interleaved pipeline, as for `bubble_frac`.
        is_fused: As for `operation_time`.

    Raises:
        RecipeError: The device lacks a peak for a dtype, or an interconnect that the layout needs.
    """
    layout = layout or Layout()
    whole = tuple(operations)
    by_stage = [
        _timed(
            ((operation, *_share(operation, stage, params, layout)) for operation in whole),
            device,
            is_fused=is_fused,
        )
        for stage in pipeline_stages(params, blocks, layout)
    ]
    pace = max(by_stage, key=lambda timed: timed.passes_s)
    communication = communication_of(
        layout, device, params, blocks, usage, tokens_per_sample=tokens_per_sample
    )
    waiting = bubble_frac(layout.pp, usage.accumulation, num_chunks)
    compute_s = pace.passes_s + pace.update_s
    exposed_s = communication.exposed_s(pace.passes_s)
    return DeviceTime(
        step_time_s=(pace.passes_s + exposed_s) / (1 - waiting) + pace.update_s,
        compute_s=compute_s,
        communication_s=exposed_s,
        bubble_frac=waiting,
        by_kind=pace.by_kind,
        communication=communication,
    )


@dataclass(frozen=True)
class _StageTime:
    passes_s: float
    """Forward and backward."""
    update_s: float
    by_kind: tuple[KindTime, ...]


def _timed(shares: Iterable[tuple[Operation, int, float]], device: Device, *, is_fused: bool) -> _StageTime:
    """Return the time of what a stage's device does of each operation: so many calls, each divided by so much."""
    passes_s = update_s = 0.0
    seconds: dict[OperationKind, dict[Bound, float]] = defaultdict(lambda: defaultdict(float))
    for operation, num_calls, by in shares:
        call_s, bound = _call_time(operation, _part(operation, by), device, is_fused=is_fused)
        time_s = num_calls * call_s / SUSTAINED_FRAC
        seconds[operation.kind][bound] += time_s
        if operation.phase == "optimizer":
            update_s += time_s
        else:
            passes_s += time_s
    kinds = (
        KindTime(kind, sum(bounds.values()), max(bounds, key=lambda bound: bounds[bound]))
        for kind, bounds in seconds.items()
    )
    return _StageTime(passes_s, update_s, tuple(sorted(kinds, key=lambda one: -one.time_s)))


def _share(operation: Operation, stage: Stage, params: ParamCount, layout: Layout) -> tuple[int, float]:
    """Return how often a device of a stage calls an operation, and by how much each call is divided."""
    # What goes over all parameters is split as they are: the update, gradients added to those of the last micro-batch.
    if operation.phase == "optimizer" or operation.shape == (params.total,):
        return operation.num_calls, layout.tp * layout.fsdp * params.total / max(1, stage.num_params)
    frac = stage.block_frac if _is_in_block(operation.module) else _frac_outside(operation, stage)
    return round(operation.num_calls * frac), layout.tp


@functools.cache
def _is_in_block(module: str) -> bool:
    return any(part.isdigit() or part in _BLOCK_NAMES for part in module.split("."))


def _frac_outside(operation: Operation, stage: Stage) -> float:
    return float(stage.has_embedding if operation.kind == "lookup" else stage.has_head)


def _part(operation: Operation, by: float) -> _Part:
    shape, flops, moved_bytes = operation.shape, operation.flops, operation.moved_bytes
    if by == 1:
        return _Part(shape, flops, moved_bytes)
    if operation.kind == "matmul" and len(shape) == 4 and operation.phase != "optimizer":
        batch, rows, columns, inner = shape
        # One of two products in a row is split by columns, the other by terms of its sums: the longer side.
        sides = (columns / by, inner) if columns >= inner else (columns, inner / by)
        shape = (batch, rows, max(1, round(sides[0])), max(1, round(sides[1])))
    return _Part(shape, round(flops / by), round(moved_bytes / by))
