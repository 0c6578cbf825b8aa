"""What a size's step takes, as the other sizes' steps foretell it."""

from __future__ import annotations

import statistics

from kleiber.cost import Calibration
from kleiber.runs import now
from kleiber.study.growing.design import Member, sized
from kleiber.study.growing.found import Found
from kleiber.study.plan import plan

__all__ = ["foretold_step"]


def foretold_step(found: Found, member: Member) -> tuple[float, float] | None:
    """Return a step's time [s] and peak [bytes] as foretold from the steps of the other sizes."""
    others = [one.probe for name, one in found.steps.items() if name != member.name]
    if len(others) < 2:
        return None
    peak = statistics.median(one.peak_flops_per_s for one in found.steps.values())
    calibration = Calibration(measured_at=now(), peak_flops_per_s={1: peak}, probes=tuple(others))
    recipe = sized(found.design.base, member.model)
    # One step: a validation would be counted, which the measured steps have not.
    recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"num_steps": 1})})
    said = plan(recipe, calibration=calibration, num_processes=found.design.num_workers)
    probe = found.steps[member.name].probe
    overheads = [
        one.peak_memory_bytes - one.planned_peak_bytes
        for one in others
        if one.peak_memory_bytes is not None and one.planned_peak_bytes is not None
    ]
    tensors = probe.planned_peak_bytes or said.memory_bytes.peak
    return said.step_time_s, tensors + max(0.0, statistics.median(overheads) if overheads else 0.0)
