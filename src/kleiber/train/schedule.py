"""The learning rate over a run: a warm-up, then one of five shapes."""

from __future__ import annotations

import math
from collections.abc import Callable

from kleiber.runs import ScheduleRecipe

__all__ = ["rate"]


def rate(step: int, num_steps: int, schedule: ScheduleRecipe) -> float:
    """Return the learning rate of a step as a fraction of its peak, in (0, 1].

    Over `warmup_steps` it rises to 1 in equal steps. `constant` stays there. `wsd` stays until its cool-down: until then the rate
    does not depend on `num_steps`, so that runs of several horizons share one trunk. `step` is multiplied by `gamma` at each
    milestone. `cosine` and `linear` leave 1 with the first step after the warm-up and would reach `final_frac` with the
    step after the last, as torch's `CosineAnnealingLR` and `LinearLR` over the steps that remain.

    Args:
        step: Number of the step, from 0.
        num_steps: All steps of the run.
        schedule: Its shape.

    Source:
        wsd: Hägele et al. 2024, arXiv:2405.18392, equation 1; "1-sqrt" is their best shape. cosine: Loshchilov & Hutter 2017,
        arXiv:1608.03983, equation 5, without restarts.

    Example:
        >>> s = ScheduleRecipe(warmup_steps=4, cooldown_frac=0.5, cooldown_shape="linear")
        >>> [round(rate(step, 8, s), 3) for step in range(8)]
        [0.25, 0.5, 0.75, 1.0, 0.8, 0.6, 0.4, 0.2]
        >>> s = ScheduleRecipe(name="linear", warmup_steps=2, final_frac=0.2)
        >>> [round(rate(step, 6, s), 3) for step in range(6)]
        [0.5, 1.0, 1.0, 0.8, 0.6, 0.4]
    """
    warmup = min(1.0, (step + 1) / schedule.warmup_steps) if schedule.warmup_steps else 1.0
    return warmup * _SHAPES[schedule.name](step, num_steps, schedule)


def _constant(_step: int, _num_steps: int, _schedule: ScheduleRecipe) -> float:
    return 1.0


def _wsd(step: int, num_steps: int, schedule: ScheduleRecipe) -> float:
    start = schedule.cooldown_start(num_steps)
    if step < start:
        return 1.0
    done = (step + 1 - start) / (num_steps + 1 - start)
    return 1 - math.sqrt(done) if schedule.cooldown_shape == "1-sqrt" else 1 - done


def _step(step: int, num_steps: int, schedule: ScheduleRecipe) -> float:
    num_passed = sum(step >= round(part * num_steps) for part in schedule.milestones)
    return float(schedule.gamma**num_passed)


def _cosine(step: int, num_steps: int, schedule: ScheduleRecipe) -> float:
    fall = (1 + math.cos(math.pi * _done(step, num_steps, schedule))) / 2
    return schedule.final_frac + (1 - schedule.final_frac) * fall


def _linear(step: int, num_steps: int, schedule: ScheduleRecipe) -> float:
    return 1 - (1 - schedule.final_frac) * _done(step, num_steps, schedule)


def _done(step: int, num_steps: int, schedule: ScheduleRecipe) -> float:
    """Return the part of the steps after the warm-up that are behind."""
    if step <= schedule.warmup_steps:
        return 0.0
    return (step - schedule.warmup_steps) / (num_steps - schedule.warmup_steps)


_SHAPES: dict[str, Callable[[int, int, ScheduleRecipe], float]] = {
    "wsd": _wsd,
    "constant": _constant,
    "step": _step,
    "cosine": _cosine,
    "linear": _linear,
}
