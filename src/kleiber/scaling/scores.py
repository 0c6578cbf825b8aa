"""How good forecasts were: error, skill, interval score and coverage, by method and factor."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kleiber.scaling.extrapolation import Foretold

__all__ = ["LEAST_ERROR", "Score", "geometric_mean", "interval_score", "scores"]

LEAST_ERROR = 1e-4
"""A smaller |log error| is luck, and would rule a geometric mean."""
_ALPHA_80 = 0.2


@dataclass(frozen=True)
class Score:
    """Of one method at one factor, over cells of all its cuts; each cut counts alike but in the worst."""

    method: str
    factor: float
    num_cuts: int
    num_cells: int
    error: float
    """Geometric mean of |log error|."""
    worst: float
    """The greatest |log error|."""
    skill: float
    """1 - mean |log error| / that of the better naive forecast; below 0 the law was worse than none."""
    interval_score: float
    """Mean width of the 80% interval in log loss and the penalty for what it missed; lower is better."""
    coverage_80: float
    coverage_95: float


def scores(cells: Sequence[Foretold]) -> tuple[Score, ...]:
    """Return the scores of each method at each factor, in the order of the cells."""
    keys = dict.fromkeys((cell.method, cell.factor) for cell in cells)
    return tuple(_score([cell for cell in cells if (cell.method, cell.factor) == key]) for key in keys)


def _score(cells: Sequence[Foretold]) -> Score:
    by_cut: dict[float, list[Foretold]] = {}
    for cell in cells:
        by_cut.setdefault(cell.cut_flops, []).append(cell)
    cuts = list(by_cut.values())

    def mean(value_of: Callable[[Foretold], float]) -> float:
        return math.fsum(math.fsum(map(value_of, cut)) / len(cut) for cut in cuts) / len(cuts)

    naive = mean(lambda cell: cell.naive_error)
    return Score(
        method=cells[0].method,
        factor=cells[0].factor,
        num_cuts=len(cuts),
        num_cells=len(cells),
        error=geometric_mean([geometric_mean([cell.error for cell in cut]) for cut in cuts]),
        worst=max(cell.error for cell in cells),
        skill=1 - mean(lambda cell: cell.error) / naive if naive else math.nan,
        interval_score=mean(interval_score),
        coverage_80=mean(lambda cell: cell.error <= cell.half_80),
        coverage_95=mean(lambda cell: cell.error <= cell.half_95),
    )


def geometric_mean(errors: Sequence[float]) -> float:
    """Return the geometric mean, errors below `LEAST_ERROR` counting as that.

    Example:
        >>> round(geometric_mean([0.01, 0.04]), 6)
        0.02
    """
    return math.exp(math.fsum(math.log(max(error, LEAST_ERROR)) for error in errors) / len(errors))


def interval_score(cell: Foretold, widening: float = 1.0) -> float:
    """Return the score of a cell's 80% interval, in log loss.

    Source:
        Gneiting and Raftery 2007, equation 43, with alpha = 0.2.
    """
    half = widening * cell.half_80
    return 2 * half + 2 / _ALPHA_80 * max(0.0, cell.error - half)
