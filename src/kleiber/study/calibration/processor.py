"""One processor, measured round by round: a GPU, or the CPU with so many threads."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from kleiber.cost.rates import ProcessorRates
from kleiber.runs import processor_name
from kleiber.study.calibration.answers import ANSWERS
from kleiber.study.calibration.limits import LimitMeter
from kleiber.study.calibration.overheads import MeasuredStep, fit_overheads, left_out_errors, measured_calls
from kleiber.study.calibration.single_calls import SINGLE_CALLS
from kleiber.study.calibration.specimen import Specimen
from kleiber.study.calibration.timing import Clock, StepTimer, dispatch_s
from kleiber.study.calibration.training_steps import STEPS

__all__ = ["SPECIMENS", "ProcessorMeter"]

SPECIMENS = {**STEPS, **SINGLE_CALLS}
"""All that calibration runs with gradients, by name."""

_SCRATCH_BYTES = 1 << 22
"""More than the inner caches of a few cores."""


class ProcessorMeter:
    """Measures one processor; `warm_up` once, then `measure` as often as there is time.

    Args:
        device: Torch's.
        num_threads: Of this process while it measures.
        specimens: What runs; at least one of them a whole step.
        answers: What runs without gradients, by names of its own; all of them whole.
        max_run_s: A specimen whose run takes longer is left out.
    """

    def __init__(
        self,
        device: torch.device,
        num_threads: int,
        specimens: Mapping[str, Specimen] = SPECIMENS,
        *,
        answers: Mapping[str, Specimen] = ANSWERS,
        max_run_s: float = 1.0,
    ) -> None:
        self._clock = Clock(device)
        self._num_threads = num_threads
        self._specimens = {**specimens, **answers}
        self._answers = frozenset(answers)
        self._max_run_s = max_run_s
        self._limits = LimitMeter(self._clock)
        self._scratch = torch.zeros(_SCRATCH_BYTES // 4, device=device)
        self._timers: dict[str, StepTimer] = {}
        self._dispatch_times_s: list[float] = []

    def warm_up(self) -> Iterator[str]:
        """Build and describe every specimen; yield the name of each before it runs."""
        for name, specimen in self._specimens.items():
            yield name
            with self._chosen():
                torch.manual_seed(0)
                # Only while tensors are made: a default device slows every call of torch's functions.
                with self._clock.device:
                    step = specimen.build()
                timer = StepTimer(step, self._clock, None if specimen.is_step else self._scratch)
                if timer.warm_up() <= self._max_run_s:
                    self._timers[name] = timer

    def measure(self) -> Iterator[str]:
        """Measure the limits and run every specimen; yield the name of each before it runs."""
        yield "limits"
        with self._chosen():
            self._limits.measure()
            self._dispatch_times_s.append(dispatch_s(self._clock))
        for name, timer in self._timers.items():
            yield name
            with self._chosen():
                if self._specimens[name].is_step:
                    timer.measure_step()
                timer.measure_calls()

    def rates(self) -> ProcessorRates:
        """Return what was measured so far with gradients, after at least one round."""
        return self._rates({name: one for name, one in self._timers.items() if name not in self._answers})

    def answer_rates(self) -> ProcessorRates | None:
        """Return what was measured so far without them; None where nothing was."""
        timers = {name: one for name, one in self._timers.items() if name in self._answers}
        return self._rates(timers, is_streamed=True) if timers else None

    def _rates(self, timers: Mapping[str, StepTimer], *, is_streamed: bool = False) -> ProcessorRates:
        dispatch_time_s = statistics.median(self._dispatch_times_s)
        calls = {name: timer.call_times(dispatch_time_s) for name, timer in timers.items()}
        steps = {
            name: MeasuredStep(timer.step_time_s, calls[name])
            for name, timer in timers.items()
            if self._specimens[name].is_step
        }
        single = [call for name in calls if name not in steps for call in measured_calls(calls[name])]
        limits, overheads = self._limits.limits, fit_overheads(list(steps.values()))
        return ProcessorRates(
            title=_title(self._clock.device, self._num_threads),
            limits=limits,
            fresh_page_s_per_byte=self._limits.fresh_page_s_per_byte,
            work_factor=overheads.work_factor,
            gap_s=overheads.gap_s,
            check_errors=left_out_errors(limits, steps, single, is_streamed=is_streamed),
            calls=tuple(
                call for found in calls.values() for call in measured_calls(found, is_streamed=is_streamed)
            ),
            is_streamed=is_streamed,
        )

    @contextmanager
    def _chosen(self) -> Iterator[None]:
        """Work with this meter's threads; between two yields the caller may work with others."""
        before = torch.get_num_threads()
        torch.set_num_threads(self._num_threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def _title(device: torch.device, num_threads: int) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor_name()}, {num_threads} thread{'s' if num_threads > 1 else ''}"
