"""The ladder that one would train without a design: sizes and horizons evenly spread, every size with all of both."""

from __future__ import annotations

from itertools import product

from kleiber.study.designing.grid import Grid, State
from kleiber.study.designing.information import Information
from kleiber.study.designing.search import spread

__all__ = ["best_even_grid", "even_grids"]

_LEAST_SPENT_FRAC = 0.75


def even_grids(
    grid: Grid, budget: float, *, num_sizes: int = 4, num_horizons: int = 3, num_seeds: int = 2
) -> list[State]:
    """Return the even grids that take most of a budget: at least three quarters of it, else the dearest alone."""
    found = [
        tuple((frozenset(horizons),) * num_seeds if i in sizes else () for i in range(len(grid.sizes)))
        for sizes, horizons in product(
            spread(len(grid.sizes), num_sizes), spread(len(grid.horizons), num_horizons)
        )
        if all(grid.allows(i, h) for i, h in product(sizes, horizons))
    ]
    affordable = sorted((state for state in found if grid.cost(state) <= budget), key=grid.cost, reverse=True)
    spent = [state for state in affordable if grid.cost(state) >= _LEAST_SPENT_FRAC * budget]
    return spent or affordable[:1]


def best_even_grid(grid: Grid, information: Information, budget: float) -> State | None:
    """Return the even grid of about this cost whose interval is foreseen narrowest; None when the budget holds none."""
    return min(even_grids(grid, budget), key=information.half_width_frac, default=None)
