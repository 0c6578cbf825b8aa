"""How long a step takes where it will run: measured on this machine, by operation, or by a device's limits."""

from __future__ import annotations

from dataclasses import dataclass

from kleiber.cost import ASSUMED_EFFICIENCY_FRAC, StepShape, calibrated_step_time, optimizer_cost
from kleiber.cost.kernel_efficiency import BACKTEST_SAYS, SUSTAINED_FRAC
from kleiber.cost.layouts import Layout
from kleiber.cost.rates import Rates
from kleiber.cost.roofline import step_time
from kleiber.cost.step_cost import StepCost
from kleiber.cost.step_time import probed_step_time
from kleiber.cost.usage import Mode, Usage
from kleiber.models import Spec
from kleiber.study.cost_document import PlannedKind
from kleiber.study.place import Place
from kleiber.units import format_seconds

__all__ = ["PlannedTime", "planned_time", "time_by_rates"]


@dataclass(frozen=True)
class PlannedTime:
    """Of a step."""

    step_time_s: float
    by_kind: tuple[PlannedKind, ...]
    """On one device, longest first; empty where it is not known."""
    communication_s: float
    bubble_frac: float
    says: str
    """What it rests on."""


def planned_time(cost: StepCost, usage: Usage, place: Place, spec: Spec | None) -> PlannedTime:
    """Return the time of a step.

    On this machine a probe of the very model comes first, then the rates by operation of `kleiber calibrate`, then
    probes of other sizes; without any a part of an assumed peak. Elsewhere the roofline of the device.

    Args:
        cost: Of one device's share of the batch.
        usage: Of the whole batch.
        place: Where.
        spec: Of a built-in family: probes know those.

    Raises:
        RecipeError: The device has no peak for the precision.
    """
    if not place.is_here:
        return _by_roofline(cost, usage, place)
    if place.calibration is None:
        return _assumed(cost, place)
    shape = _shape(cost, usage, place, spec)
    probed = None if shape is None else probed_step_time(shape, place.calibration)
    if probed is None and place.calibration.rates is not None:
        return time_by_rates(cost, place.calibration.rates, place.num_threads, mode=usage.mode)
    if shape is None:
        return _assumed(cost, place)
    found = probed or calibrated_step_time(shape, place.calibration)
    return PlannedTime(found.step_time_s, (), 0.0, 0.0, found.method)


def _by_roofline(cost: StepCost, usage: Usage, place: Place) -> PlannedTime:
    device = place.device
    found = step_time(
        cost.operations,
        device,
        place.layout or Layout(),
        usage=usage,
        params=cost.num_params,
        blocks=cost.blocks,
        tokens_per_sample=cost.tokens_per_sample or 1,
        is_fused=place.is_compiled,
    )
    kernels = "compiled" if place.is_compiled else "eager"
    return PlannedTime(
        found.step_time_s,
        tuple(PlannedKind(kind=part.kind, time_s=part.time_s, bound=part.bound) for part in found.by_kind),
        found.communication_s,
        found.bubble_frac,
        f"Time is that of {kernels} kernels on {device.title} by operation, the slower of compute and bandwidth, at {SUSTAINED_FRAC:.0%} "
        f"of what each reaches alone; {BACKTEST_SAYS}.",
    )


def _shape(cost: StepCost, usage: Usage, place: Place, spec: Spec | None) -> StepShape | None:
    """Return what probes are compared with; None of a step that no probe takes."""
    if spec is None or usage.mode == "infer" or usage.precision != "fp32" or usage.is_checkpointed:
        return None
    if usage.optimizer not in {"adamw", "muon"}:
        return None
    work = optimizer_cost(usage.optimizer, spec.count().total, spec.hidden_shapes())
    return StepShape(
        spec=spec.model_dump(mode="json"),
        optimizer=usage.optimizer,
        num_blocks=spec.depth,
        flops=spec.flops(usage.batch_size).total + work.flops,
        tokens=usage.batch_size * (cost.tokens_per_sample or 1),
        num_threads=place.num_threads,
    )


def time_by_rates(cost: StepCost, rates: Rates, num_threads: int, *, mode: Mode = "train") -> PlannedTime:
    """Return the time of a step on this machine, operation by operation.

    Args:
        cost: Of the step.
        rates: As `kleiber calibrate` measured them.
        num_threads: Of the process.
        mode: `infer` of calls without gradients.
    """
    found = rates.step_time(cost.operations, num_threads, mode=mode)
    return PlannedTime(
        found.step_time_s,
        tuple(PlannedKind(kind=part.kind, time_s=part.time_s, bound=part.bound) for part in found.by_kind),
        0.0,
        0.0,
        f"Time follows by operation from this machine's rates, measured on {rates.measured_at[:10]}; "
        f"{format_seconds(found.between_calls_s)} of a step pass between the operations.",
    )


def _assumed(cost: StepCost, place: Place) -> PlannedTime:
    dtype, peak = place.device.peak("fp32")
    flops = cost.flops("forward") + cost.flops("backward") + cost.flops("optimizer")
    return PlannedTime(
        flops / (ASSUMED_EFFICIENCY_FRAC * peak),
        (),
        0.0,
        0.0,
        f"Time is assumed at {ASSUMED_EFFICIENCY_FRAC:.0%} of {peak / 1e9:.0f} GFLOP/s in {dtype}, not measured; "
        "kleiber calibrate measures this machine.",
    )
