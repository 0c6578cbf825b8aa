"""How long a training step takes: from probes of this machine, or from a peak and an assumed efficiency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kleiber.cost.calibration import Calibration, Probe

__all__ = [
    "ASSUMED_EFFICIENCY_FRAC",
    "StepShape",
    "StepTime",
    "assumed_step_time",
    "calibrated_step_time",
    "comparable_probes",
    "probed_step_time",
]

ASSUMED_EFFICIENCY_FRAC = 0.4
"""Of the peak, where nothing was measured: dense training is published at 0.38 to 0.46 (Llama 3 405B, PaLM)."""


@dataclass(frozen=True)
class StepShape:
    """What a step's time depends on."""

    spec: dict[str, Any]
    optimizer: str
    num_blocks: int
    flops: float
    """Of model and optimizer [FLOP]."""
    tokens: int
    num_threads: int
    num_processes: int = 1
    """Training processes side by side on the machine."""


@dataclass(frozen=True)
class StepTime:
    """A step's predicted time and where it comes from."""

    step_time_s: float
    s_per_flop: float
    """Of more work of this kind; for the forward passes of validation."""
    method: str
    """One sentence."""


def assumed_step_time(shape: StepShape, peak_flops_per_s: float, where: str) -> StepTime:
    """Return the time at the assumed efficiency of a peak.

    Args:
        shape: The step.
        peak_flops_per_s: Of the device at the dtype of its matrix products.
        where: Whose peak it is, for the sentence.
    """
    rate = ASSUMED_EFFICIENCY_FRAC * peak_flops_per_s
    return StepTime(
        shape.flops / rate,
        1 / rate,
        f"Time is assumed at {ASSUMED_EFFICIENCY_FRAC:.0%} of the peak of {where}, not measured; small models reach less.",
    )


def calibrated_step_time(shape: StepShape, calibration: Calibration) -> StepTime:
    """Return the time that this machine's probes give.

    A probe of the same spec, optimizer, tokens and threads is taken as it is. Otherwise the probes with the
    same number of threads are fitted by `s_per_flop * flops + s_per_block * blocks + s_per_step`, none negative,
    in relative error. Without such probes the time is assumed from the measured peak.
    """
    exact = probed_step_time(shape, calibration)
    if exact is not None:
        return exact
    probes = comparable_probes(shape, calibration)
    if not probes:
        peak = calibration.peak(shape.num_threads)
        where = f"this machine with {shape.num_threads} threads ({peak / 1e9:.0f} GFLOP/s)"
        return assumed_step_time(shape, peak, where)
    per_flop, per_block, per_step = _fit(probes, calibration.peak(shape.num_threads))
    return StepTime(
        per_flop * shape.flops + per_block * shape.num_blocks + per_step,
        per_flop,
        f"Time follows from {len(probes)} probes of other sizes on this machine: "
        f"{1e-9 / per_flop:.0f} GFLOP/s and {per_block * 1e3:.2g} ms a block.",
    )


def probed_step_time(shape: StepShape, calibration: Calibration) -> StepTime | None:
    """Return the time of this machine's last probe of the same spec, optimizer, tokens and threads, if there is one."""
    exact = [probe for probe in comparable_probes(shape, calibration) if _is_same(probe, shape)]
    if not exact:
        return None
    time_s = exact[-1].step_time_s
    return StepTime(
        time_s, time_s / shape.flops, "Time is that of a probe of this very model on this machine."
    )


def comparable_probes(shape: StepShape, calibration: Calibration) -> list[Probe]:
    """Return the probes of the family with as many threads; of those the ones alike in more, where there are any."""
    family = shape.spec.get("family")
    probes = [
        probe
        for probe in calibration.probes
        if probe.num_threads == shape.num_threads and probe.spec.get("family", family) == family
    ]
    for key in ("num_processes", "optimizer"):
        probes = [probe for probe in probes if getattr(probe, key) == getattr(shape, key)] or probes
    return probes


def _is_same(probe: Probe, shape: StepShape) -> bool:
    return (probe.spec, probe.optimizer, probe.tokens_per_step, probe.num_processes) == (
        shape.spec,
        shape.optimizer,
        shape.tokens,
        shape.num_processes,
    )


def _fit(probes: Sequence[Probe], peak_flops_per_s: float) -> tuple[float, float, float]:
    """Return seconds a FLOP, a block and a step: non-negative least squares of the relative error.

    With three columns the best subset of them can be tried: the solution of the constrained problem is the
    unconstrained one of its own support.
    """
    if len(probes) == 1:
        return _overhead_of(probes[0], peak_flops_per_s)
    import numpy as np  # noqa: PLC0415 - a plan without probes needs no NumPy

    rows = np.array([[probe.flops_per_step, probe.num_blocks, 1.0] for probe in probes])
    rows /= np.array([[probe.step_time_s] for probe in probes])
    scale = rows.max(axis=0)
    rows /= scale
    solutions = []
    # Work always takes time: every support holds the first column.
    for support in ((0,), (0, 1), (0, 2), (0, 1, 2))[: 2 if len(probes) < 3 else 4]:
        values = np.zeros(3)
        values[list(support)] = np.linalg.lstsq(rows[:, support], np.ones(len(rows)), rcond=None)[0]
        if values.min() >= 0 and values[0] > 0:
            solutions.append((float(np.square(rows @ values - 1).sum()), tuple(values / scale)))
    per_flop, per_block, per_step = min(solutions)[1]
    return float(per_flop), float(per_block), float(per_step)


def _overhead_of(probe: Probe, peak_flops_per_s: float) -> tuple[float, float, float]:
    """Return seconds a FLOP, a block and a step of one probe: what its work does not take at peak is overhead."""
    overhead_s = max(0.0, probe.step_time_s - probe.flops_per_step / peak_flops_per_s)
    return (probe.step_time_s - overhead_s) / probe.flops_per_step, overhead_s / probe.num_blocks, 0.0
