"""What a step takes beyond its calls, fitted to whole steps, and the check that leaves each step out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from kleiber.cost.call_time import CallTimes
from kleiber.cost.measured_call import Limits, MeasuredCall, streamed_bytes
from kleiber.cost.operations import Operation
from kleiber.cost.rates import mean_moved_bytes

__all__ = ["MeasuredStep", "Overheads", "StepCalls", "fit_overheads", "left_out_errors", "measured_calls"]


StepCalls: TypeAlias = Mapping[Operation, tuple[int, float]]
"""How often each operation is called in a step, and the time of one call [s]."""


@dataclass(frozen=True)
class MeasuredStep:
    """A whole step and its calls."""

    step_time_s: float
    calls: StepCalls

    @property
    def num_calls(self) -> int:
        """Calls that do work."""
        return sum(count for count, _ in self.calls.values())

    @property
    def calls_s(self) -> float:
        """Time of all calls [s]."""
        return sum(count * time_s for count, time_s in self.calls.values())


@dataclass(frozen=True)
class Overheads:
    """How the time of a step follows from that of its calls."""

    work_factor: float
    gap_s: float

    def step_time_s(self, calls_s: float, num_calls: int) -> float:
        """Return the time of a step whose calls take `calls_s` together.

        Example:
            >>> round(Overheads(1.5, 1e-6).step_time_s(0.01, 100), 9)  # gaps of 10 microseconds: 1 and 100 have that mean
            0.016
        """
        return self.work_factor * calls_s + math.sqrt(self.gap_s * num_calls * calls_s)


def measured_calls(calls: StepCalls, *, is_streamed: bool = False) -> list[MeasuredCall]:
    """Return the calls of one step, or of one answer, as documents."""
    among_bytes = _among_bytes(calls, is_streamed=is_streamed)
    return [MeasuredCall.timed(operation, time_s, among_bytes) for operation, (_, time_s) in calls.items()]


def _among_bytes(calls: StepCalls, *, is_streamed: bool) -> int:
    counted = [(operation, count) for operation, (count, _) in calls.items()]
    return streamed_bytes(counted) if is_streamed else mean_moved_bytes(counted)


def fit_overheads(steps: Sequence[MeasuredStep]) -> Overheads:
    """Return the overheads with the least squares of relative errors, none of them negative.

    Args:
        steps: At least one.

    Example:
        >>> add = Operation("add", "elementwise", "forward", "", (8,), 0, 96)
        >>> found = fit_overheads([MeasuredStep(3e-3, {add: (10, 2e-4)}), MeasuredStep(6e-3, {add: (10, 4e-4)})])
        >>> round(found.work_factor, 6), round(found.gap_s, 12)
        (1.5, 0.0)
    """
    times_s = np.array([step.step_time_s for step in steps])
    calls_s = np.array([step.calls_s for step in steps])
    gaps = np.sqrt([step.num_calls * step.calls_s for step in steps])
    both = np.column_stack([calls_s / times_s, gaps / times_s])
    (work, gap), _, rank, _ = np.linalg.lstsq(both, np.ones(len(steps)), rcond=None)
    if rank == 2 and work > 0 and gap >= 0:
        return Overheads(float(work), float(gap) ** 2)
    # Where steps do not tell the two apart, or one would be negative, work alone.
    return Overheads(float(both[:, 0].sum() / np.square(both[:, 0]).sum()), 0.0)


def left_out_errors(
    limits: Limits,
    steps: Mapping[str, MeasuredStep],
    others: Sequence[MeasuredCall],
    *,
    is_streamed: bool = False,
) -> dict[str, float]:
    """Return the relative error of each step's time when it is predicted from the other steps and `others` alone.

    Args:
        limits: Of the processor.
        steps: By name; with fewer than two there is nothing to predict from, and the result is empty.
        others: Calls of no step.
        is_streamed: Whether they are answers.
    """
    errors = {}
    for name, step in steps.items() if len(steps) > 1 else ():
        rest = [other for known, other in steps.items() if known != name]
        known_calls = [
            call for other in rest for call in measured_calls(other.calls, is_streamed=is_streamed)
        ]
        times = CallTimes(limits, [*others, *known_calls], is_streamed=is_streamed)
        among_bytes = _among_bytes(step.calls, is_streamed=is_streamed)
        calls_s = sum(count * times.time_s(op, among_bytes) for op, (count, _) in step.calls.items())
        errors[name] = fit_overheads(rest).step_time_s(calls_s, step.num_calls) / step.step_time_s - 1
    return errors
