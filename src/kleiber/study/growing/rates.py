"""Rates by short runs: the best one of one size, and of every size the highest that still learns."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable
from pathlib import Path

from kleiber.runs import Recipe, guessing_loss, has_learnt
from kleiber.study.growing.measured import RateFound, Tuned, measured_path
from kleiber.study.growing.opened import opened
from kleiber.study.growing.short_run import ShortRun, warmed_up
from kleiber.train import Progress

__all__ = ["MAX_SHORT_RUNS", "bisect_rate", "find_rate", "tune", "tune_rates"]

MAX_SHORT_RUNS = 9
"""Of one size."""
_UP = 4.0
_FINE = 2**0.5
"""Between the highest rate that learns and the lowest that does not."""
_MAX_FACTOR = 4.0**6
_LEARNT_FRAC = 0.5
"""Of what the usual rate learns: less is called unstable."""
_TUNED = (64.0, 2.0**-8)
"""Largest and smallest factor that is tried; the search goes downhill, and ends long before where it can."""

Report = Callable[[Progress], None]


def bisect_rate(
    loss_at: Callable[[float], float], first_loss: float, guessing: float | None = None
) -> tuple[list[float], list[float]]:
    """Return the factors that were tried and their losses, in order: up by fours until one fails, then bisected.

    A factor learns if it brings the loss down from `first_loss` by at least half of what factor 1 does.

    Args:
        loss_at: Loss at the end of a short run at a factor of the usual rate; not finite where it diverged.
        first_loss: Before training.
        guessing: Loss of guessing: a usual rate that does not come below it by a margin has no edge to seek.

    Example:
        >>> bisect_rate(lambda factor: 1.0 if factor < 10 else math.nan, 2.0)[0]
        [1.0, 4.0, 16.0, 8.0, 11.313708498984761]
    """
    factors, losses = [1.0], [loss_at(1.0)]
    if not (losses[0] < first_loss and has_learnt(losses[0], guessing)):
        return factors, losses
    enough = first_loss - _LEARNT_FRAC * (first_loss - losses[0])

    def learns(factor: float) -> bool:
        factors.append(factor)
        losses.append(loss_at(factor))
        return losses[-1] <= enough  # False of a number that is not one

    low = 1.0
    high = low * _UP
    while high <= _MAX_FACTOR and learns(high):
        low, high = high, high * _UP
    while high <= _MAX_FACTOR and high / low > _FINE * 1.001 and len(factors) < MAX_SHORT_RUNS:
        middle = math.sqrt(low * high)
        if learns(middle):
            low = middle
        else:
            high = middle
    return factors, losses


def find_rate(recipe: Recipe, member: str, num_steps: int, folder: Path, report: Report) -> None:
    """Write how high the rates of a size may be, by short runs.

    Args:
        recipe: Of the size, with the usual rates.
        member: Its name.
        num_steps: Of each short run.
        folder: The study.
        report: Is told how far it is.
    """

    def loss_at(factor: float) -> float:
        return _last(_short(recipe, f"{member} rate x{factor:.3g}", num_steps, factor, report))

    # The first loss of any rate is that of the model before its first step.
    first = _short(recipe, f"{member} start", 1, 1.0, report).losses[0]
    guessing = guessing_loss(recipe)
    factors, losses = bisect_rate(loss_at, first, guessing)
    learnt = first - _LEARNT_FRAC * (first - losses[0])
    is_usual = losses[0] < first and has_learnt(losses[0], guessing)
    stable = [factor for factor, loss in zip(factors, losses, strict=True) if loss <= learnt and is_usual]
    failed = [factor for factor in factors if factor not in stable and factor > max(stable, default=0.0)]
    RateFound(
        member=member,
        num_steps=num_steps,
        matrix_lr=recipe.train.optimizer.matrix_lr,
        factors=tuple(factors),
        losses=tuple(loss if math.isfinite(loss) else None for loss in losses),
        stable=max(stable, default=None),
        unstable=min(failed, default=None),
    ).write(measured_path(folder, RateFound, member))


def tune(loss_at: Callable[[float], float]) -> tuple[dict[float, float], float]:
    """Return the losses of the factors that were tried, and the best factor: from 1 downhill by twos.

    Where all diverge it goes down.

    Example:
        >>> tune(lambda factor: abs(math.log2(factor) - 2))
        ({1.0: 2.0, 2.0: 1.0, 4.0: 0.0, 8.0: 1.0}, 4.0)
    """
    losses: dict[float, float] = {}

    def at(factor: float) -> float:
        if factor not in losses:
            loss = loss_at(factor)
            losses[factor] = loss if math.isfinite(loss) else math.inf
        return losses[factor]

    best = 1.0
    at(best)
    for ratio in (2.0, 0.5):
        while _TUNED[1] <= best * ratio <= _TUNED[0] and (
            at(best * ratio) < at(best) or (ratio < 1 and math.isinf(at(best)))
        ):
            best *= ratio
        if best != 1.0:
            break
    return losses, best


def tune_rates(recipe: Recipe, member: str, num_steps: int, folder: Path, report: Report) -> None:
    """Write which multiple of the recipe's rates learns most in a short run of this size."""

    def loss_at(factor: float) -> float:
        return _last(_short(recipe, f"{member} tuning x{factor:.3g}", num_steps, factor, report))

    losses, best = tune(loss_at)
    Tuned(
        member=member,
        num_steps=num_steps,
        factors=tuple(losses),
        losses=tuple(loss if math.isfinite(loss) else None for loss in losses.values()),
        best=best,
        is_at_edge=best in _TUNED,
    ).write(measured_path(folder, Tuned, member))


def _short(recipe: Recipe, name: str, num_steps: int, factor: float, report: Report) -> ShortRun:
    data = opened(recipe)
    run = ShortRun(recipe, data.meta, name, report, total_steps=num_steps)
    scales = (factor * warmed_up(step, num_steps) for step in itertools.count())
    run.train(data.batches("train", 0, recipe.train.batch_size), scales, num_steps)
    return run


def _last(run: ShortRun) -> float:
    """Return the mean loss over the last quarter, nan of a run that diverged."""
    return math.nan if run.has_diverged else statistics.fmean(run.losses[-max(1, len(run.losses) // 4) :])
