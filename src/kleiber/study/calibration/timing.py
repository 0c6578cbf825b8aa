"""How long each call inside a step takes, and the step as a whole."""

from __future__ import annotations

import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from kleiber.cost.operations import Operation, Phase
from kleiber.cost.trace.operation_kinds import kind_of
from kleiber.cost.trace.operation_table import describe
from kleiber.study.calibration.specimen import Step

__all__ = ["Clock", "StepTimer", "dispatch_s", "undisturbed"]

_REPEATS = 400
_BURST_S = 0.01
"""Quick steps are run for so long in a row: in training a step follows the same step."""
_LONG_S = 0.05
"""A step of this length hardly notices what ran before it."""


@dataclass(frozen=True)
class Clock:
    """Time on one device: a GPU is waited for."""

    device: torch.device

    def now(self) -> float:
        """Return seconds, when all that was started has ended."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


class _Describing(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch leaves its modes unannotated
    """Writes down what each call is, in the words of a traced step; None where it is a view."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # the same
        self.calls: list[Operation | None] = []
        self.phase: Phase = "forward"

    def enter(self, phase: Phase) -> None:
        self.phase = phase

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        sketch = describe(func, *_without_reserves(func, (args, kwargs, out)))
        if sketch is None:
            self.calls.append(None)
        else:
            is_update = self.phase == "optimizer" and not sketch.flops
            kind = "optimizer" if is_update else sketch.kind
            name = func.__name__.partition(".")[0]
            self.calls.append(
                Operation(
                    name, kind, self.phase, "", sketch.shape, sketch.flops, sketch.moved_bytes, sketch.dtype
                )
            )
        return out


def _without_reserves(func: Any, values: Any) -> Any:
    """Return arguments and results of a call as fake tensors show them: recurrent layers hand no reserve on."""
    if kind_of(func) != "recurrent":
        return values
    return tree_map_only(torch.Tensor, lambda x: x[:0] if x.dtype == torch.uint8 else x, values)


class _Timing(TorchDispatchMode):  # type: ignore[no-untyped-call] # the same
    """Writes down the time of each call and nothing else, so that a step stays nearly what it is."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # the same
        self.times_s: list[float] = []
        self._clock = clock

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        start = self._clock.now()
        out = func(*args, **kwargs)
        self.times_s.append(self._clock.now() - start)
        return out


@dataclass
class StepTimer:
    """Times one step again and again.

    Args:
        step: What is run.
        clock: Of its device.
        scratch: Written before each run whose calls are timed: what a single operation reads is then as far away as
            inside a step, where others have run since. None leaves the caches alone.
    """

    step: Step
    clock: Clock
    scratch: torch.Tensor | None = None
    step_times_s: list[float] = field(default_factory=list)
    _calls: list[Operation | None] = field(default_factory=list)
    _call_times_s: list[list[float]] = field(default_factory=list)

    def warm_up(self) -> float:
        """Run a step, describe the calls of another, and return the time of a third [s]."""
        self.step(_nothing)  # the optimizer makes its state
        with _Describing() as describing:
            self.step(describing.enter)
        self._calls = describing.calls
        return self._run_s()

    def measure_step(self) -> None:
        """Time the whole step; a quick one often, after a run that finds the caches as other work left them."""
        times_s = [self._run_s()]
        if times_s[0] < _LONG_S:
            start = self.clock.now()
            times_s = [self._run_s()]
            while self.clock.now() - start < _BURST_S:
                times_s.append(self._run_s())
        self.step_times_s.append(statistics.median(times_s))

    def measure_calls(self) -> None:
        """Time each call of the step; those of a quick step often."""
        start = self.clock.now()
        while True:
            if self.scratch is not None:
                self.scratch.add_(1)
            with _Timing(self.clock) as timing:
                self.step(_nothing)
            # A step that took another way than the one described, as when it caches something, says nothing.
            if len(timing.times_s) == len(self._calls):
                self._call_times_s.append(timing.times_s)
            if self.clock.now() - start >= _BURST_S:
                return

    def _run_s(self) -> float:
        start = self.clock.now()
        self.step(_nothing)
        return self.clock.now() - start

    @property
    def step_time_s(self) -> float:
        """Time of the step when nothing disturbs it [s]."""
        return undisturbed(self.step_times_s)

    def call_times(self, dispatch_time_s: float) -> dict[Operation, tuple[int, float]]:
        """Return, of each operation that does work, the calls in a step and the time of one [s].

        Args:
            dispatch_time_s: What timing itself adds to a call.
        """
        counts: Counter[Operation] = Counter()
        total_s: dict[Operation, float] = defaultdict(float)
        for index, operation in enumerate(self._calls):
            if operation is not None and self._call_times_s:
                time_s = undisturbed([times_s[index] for times_s in self._call_times_s])
                counts[operation] += 1
                # A call cannot have taken less than a tenth of what timing it adds.
                total_s[operation] += max(time_s - dispatch_time_s, dispatch_time_s / 10)
        return {operation: (count, total_s[operation] / count) for operation, count in counts.items()}


def undisturbed(times_s: Sequence[float]) -> float:
    """Return the lower quartile of times of the same work: other work on the machine only ever adds to them.

    Example:
        >>> undisturbed([1.0, 1.01, 1.02, 1.03, 1.6, 9.0, 20.0, 25.0])
        1.02
    """
    return sorted(times_s)[len(times_s) // 4]


def dispatch_s(clock: Clock) -> float:
    """Return what timing adds to the time of a call: that of a tiny one timed, less that of one in a row [s]."""
    x = torch.zeros(1, device=clock.device)
    timing = _Timing(clock)
    for _ in range(_REPEATS):
        with timing:
            x.neg()
    times_s = []
    for _ in range(_REPEATS // 40):
        start = clock.now()
        for _ in range(_REPEATS):
            x.neg()
        times_s.append((clock.now() - start) / _REPEATS)
    return max(0.0, statistics.median(timing.times_s) - min(times_s))


def _nothing(_: Phase) -> None:
    """Do nothing when a phase begins."""
