"""What a step takes beyond its calls, fitted to whole steps, and the check that leaves each step out."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from kleiber.cost.call_time import CallTimes
from kleiber.cost.measured_call import Limits, MeasuredCall
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
    s_per_call: float
    s_per_step: float

    def step_time_s(self, calls_s: float, num_calls: int) -> float:
        """Return the time of a step whose calls take `calls_s` together.

        Example:
            >>> Overheads(1.5, 2e-6, 1e-3).step_time_s(0.01, 500)
            0.017
        """
        return self.work_factor * calls_s + self.s_per_call * num_calls + self.s_per_step


def measured_calls(calls: StepCalls) -> list[MeasuredCall]:
    """Return the calls of one step as documents."""
    among_bytes = _among_bytes(calls)
    return [MeasuredCall.timed(operation, time_s, among_bytes) for operation, (_, time_s) in calls.items()]


def _among_bytes(calls: StepCalls) -> int:
    return mean_moved_bytes((operation, count) for operation, (count, _) in calls.items())


def fit_overheads(steps: Sequence[MeasuredStep]) -> Overheads:
    """Return the overheads with the least squares of relative errors, none of them negative.

    Args:
        steps: At least one.

    Example:
        >>> add = Operation("add", "elementwise", "forward", "", (8,), 0, 96)
        >>> found = fit_overheads([MeasuredStep(3e-3, {add: (10, 2e-4)}), MeasuredStep(6e-3, {add: (10, 4e-4)})])
        >>> round(found.work_factor, 6), found.s_per_call, found.s_per_step
        (1.5, 0.0, 0.0)
    """
    rows = np.array([[step.calls_s, step.num_calls, 1.0] for step in steps])
    rows /= np.array([[step.step_time_s] for step in steps])
    scale = rows.max(axis=0)
    solutions = []
    # The solution of the constrained problem is the unconstrained one of its own support; work always counts.
    for others in itertools.chain.from_iterable(itertools.combinations((1, 2), n) for n in range(3)):
        support = [0, *others]
        values = np.zeros(3)
        values[support] = np.linalg.lstsq((rows / scale)[:, support], np.ones(len(rows)), rcond=None)[0]
        if values.min() >= 0 and values[0] > 0:
            error = float(np.square(rows / scale @ values - 1).sum())
            # Of fits that are equally good, the one with the fewest terms.
            solutions.append((round(error, 9), len(support), tuple(map(float, values / scale))))
    return Overheads(*min(solutions)[2])


def left_out_errors(
    limits: Limits, steps: Mapping[str, MeasuredStep], others: Sequence[MeasuredCall]
) -> dict[str, float]:
    """Return the relative error of each step's time when it is predicted from the other steps and `others` alone.

    Args:
        limits: Of the processor.
        steps: By name; with fewer than two there is nothing to predict from, and the result is empty.
        others: Calls of no step.
    """
    errors = {}
    for name, step in steps.items() if len(steps) > 1 else ():
        rest = [other for known, other in steps.items() if known != name]
        times = CallTimes(
            limits, [*others, *(call for other in rest for call in measured_calls(other.calls))]
        )
        among_bytes = _among_bytes(step.calls)
        calls_s = sum(count * times.time_s(op, among_bytes) for op, (count, _) in step.calls.items())
        errors[name] = fit_overheads(rest).step_time_s(calls_s, step.num_calls) / step.step_time_s - 1
    return errors
