"""A bounded search along one setting on a grid of powers of two: bracket the best, then a parabola between grid points."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["Searched", "parabola_minimum", "search_powers"]


@dataclass(frozen=True)
class Searched:
    """What a search along one setting found."""

    losses: Mapping[int, float]
    """By power of two; infinite where the training diverged."""
    best: float
    """Power with the least loss, between grid points where both neighbours are known."""
    is_bracketed: bool
    """Whether the best of the grid has a worse neighbour on both sides."""

    @property
    def best_power(self) -> int:
        """Power of the grid with the least loss."""
        return min(self.losses, key=self.losses.__getitem__)

    @property
    def loss(self) -> float:
        """The least loss."""
        return self.losses[self.best_power]


def search_powers(loss_at: Callable[[int], float], *, start: int = 0, max_trials: int = 6) -> Searched:
    """Return the power of two at which a loss is least; the loss is taken to fall to one valley.

    The start and its neighbours first, then on from the best until it stands inside; down where all have diverged.

    Args:
        loss_at: Of a power; infinite where the training diverged.
        start: Power to begin with.
        max_trials: Most calls of `loss_at`.

    Example:
        >>> found = search_powers(lambda power: (power - 2.2) ** 2)
        >>> sorted(found.losses), round(found.best, 6), found.is_bracketed
        ([-1, 0, 1, 2, 3], 2.2, True)
    """
    losses: dict[int, float] = {}
    wanted = [start, start + 1, start - 1]
    while wanted and len(losses) < max_trials:
        power = wanted.pop(0)
        losses[power] = loss_at(power)
        if not wanted:
            best = min(losses, key=losses.__getitem__)
            near = (best + 1, best - 1) if math.isfinite(losses[best]) else (min(losses) - 1,)
            wanted = [power for power in near if power not in losses]
    best = min(losses, key=losses.__getitem__)
    is_bracketed = math.isfinite(losses[best]) and best - 1 in losses and best + 1 in losses
    return Searched(losses, parabola_minimum(losses), is_bracketed)


def parabola_minimum(losses: Mapping[int, float]) -> float:
    """Return the minimum of the parabola through the least loss and its two neighbours, in powers.

    Where a neighbour is unknown or diverged, the best power of the grid is it.

    Example:
        >>> parabola_minimum({0: 3.0, 1: 1.0, 2: 2.0})
        1.1666666666666667
        >>> parabola_minimum({0: 3.0, 1: 1.0, 2: math.inf})
        1.0
    """
    best = min(losses, key=losses.__getitem__)
    low, high = (losses.get(best + step, math.inf) for step in (-1, 1))
    curvature = low + high - 2 * losses[best]
    if not math.isfinite(curvature) or curvature <= 0:
        return float(best)
    return best + (low - high) / (2 * curvature)
