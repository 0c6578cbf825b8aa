"""The learning rate over a run: warm-up, stable, cool-down."""

from __future__ import annotations

import math

from kleiber.runs import ScheduleRecipe

__all__ = ["rate"]


def rate(step: int, num_steps: int, schedule: ScheduleRecipe) -> float:
    """Return the learning rate of a step as a fraction of its peak, in (0, 1].

    Until the cool-down starts the rate does not depend on `num_steps`, so that runs of several horizons share
    one trunk.

    Args:
        step: Number of the step, from 0.
        num_steps: All steps of the run.
        schedule: Its shape.

    Source:
        Hägele et al. 2024, arXiv:2405.18392, equation 1; "1-sqrt" is their best shape.

    Example:
        >>> s = ScheduleRecipe(warmup_steps=4, cooldown_frac=0.5, cooldown_shape="linear")
        >>> [round(rate(step, 8, s), 3) for step in range(8)]
        [0.25, 0.5, 0.75, 1.0, 0.8, 0.6, 0.4, 0.2]
    """
    warmup = min(1.0, (step + 1) / schedule.warmup_steps) if schedule.warmup_steps else 1.0
    start = schedule.cooldown_start(num_steps)
    if step < start:
        return warmup
    done = (step + 1 - start) / (num_steps + 1 - start)
    return warmup * (1 - math.sqrt(done) if schedule.cooldown_shape == "1-sqrt" else 1 - done)
