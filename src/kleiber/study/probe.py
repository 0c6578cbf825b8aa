"""A few real steps of each size: what this machine needs for a design, measured in seconds."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from kleiber.cost import Calibration, Probe, optimizer_cost
from kleiber.cost.optimizers import optimizer_of
from kleiber.data.random_batch import random_batch
from kleiber.fleet import Done, Job, LocalExecutor
from kleiber.models import resolve_spec
from kleiber.models.seen_data import seen_by
from kleiber.runs import Recipe, now, num_cores
from kleiber.study.recipe_cost import recipe_cost
from kleiber.tasks import task_of
from kleiber.train.allocator import pin_allocator
from kleiber.train.measure import MemoryMeter, peak_flops_per_s
from kleiber.train.state import TrainState

__all__ = ["calibrate", "probe"]

_WARM_STEPS = 8
_SECONDS = 1.2
_MIN_STEPS = 8


def probe(recipe: Recipe, num_processes: int, report: Callable[[Any], None]) -> tuple[float, Probe]:
    """Train `recipe` for about a second on random samples; return the machine's peak [FLOP/s] and the probe.

    Args:
        recipe: With `parallel.num_threads` set.
        num_processes: Training processes side by side, this one included.
        report: Called with nothing of use; a probe is too short to follow.
    """
    del report
    num_threads = recipe.parallel.num_threads or num_cores()
    torch.set_num_threads(num_threads)
    pin_allocator(keeps_freed_memory=recipe.parallel.keeps_freed_memory)
    peak = peak_flops_per_s(num_threads)
    meter = MemoryMeter()
    spec, train, task = resolve_spec(recipe), recipe.train, task_of(recipe.task)
    state = TrainState.start(recipe, spec)
    batch = random_batch(seen_by(spec), recipe.task.name, train.batch_size // train.accumulation)
    times_s: list[float] = []
    while len(times_s) < _WARM_STEPS + _MIN_STEPS or sum(times_s[_WARM_STEPS:]) < _SECONDS:
        start = time.perf_counter()
        for _ in range(train.accumulation):
            loss = task.loss(state.module, batch) / train.accumulation
            loss.backward()  # type: ignore[no-untyped-call] # torch leaves it unannotated
            loss.item()
        state.optimizer.clip_(train.clip_norm)
        # A rate near 0: the time of a step is wanted, not its effect.
        state.optimizer.step(1e-9)
        state.optimizer.zero_grad()
        times_s.append(time.perf_counter() - start)
    measured_bytes = meter.peak_bytes()  # before the plan, which traces a step in this very process
    planned = recipe_cost(recipe, spec, "fp32", is_validated=False).memory
    update = optimizer_cost(optimizer_of(train.optimizer), spec.count().total, spec.hidden_shapes())
    return peak, Probe(
        spec=spec.model_dump(mode="json"),
        optimizer=train.optimizer.name,
        num_blocks=spec.depth,
        flops_per_step=float(spec.flops(train.batch_size).total + update.flops),
        tokens_per_step=recipe.tokens_per_step,
        num_threads=num_threads,
        num_processes=num_processes,
        step_time_s=statistics.median(times_s[_WARM_STEPS:]),
        peak_memory_bytes=float(measured_bytes),
        planned_peak_bytes=planned.summary().peak,
    )


def calibrate(side_by_side: Sequence[Recipe], alone: Sequence[Recipe], num_processes: int) -> Calibration:
    """Return what probes of these recipes say of this machine.

    Args:
        side_by_side: Probed `num_processes` at a time, as rungs are trained.
        alone: Probed one after another, as a target is trained.
        num_processes: Processes at a time for the former.

    Raises:
        KleiberError: A probe's process died.
        Interrupted: SIGINT or SIGTERM.
    """
    measured: list[tuple[float, Probe]] = []
    rounds = [
        (side_by_side[i : i + num_processes], num_processes)
        for i in range(0, len(side_by_side), num_processes)
    ]
    rounds += [([recipe], 1) for recipe in alone]
    for recipes, beside in rounds:
        # Fresh processes each round: in one that has trained before, the libraries' memory would not be seen.
        jobs = [
            Job(f"probe-{i}", functools.partial(probe, recipe, beside)) for i, recipe in enumerate(recipes)
        ]
        measured += [event.result for event in LocalExecutor(beside).run(jobs) if isinstance(event, Done)]
    peaks: dict[int, float] = {}
    for peak, found in measured:
        peaks[found.num_threads] = max(peak, peaks.get(found.num_threads, 0.0))
    return Calibration(
        measured_at=now(), peak_flops_per_s=peaks, probes=tuple(found for _, found in measured)
    )
