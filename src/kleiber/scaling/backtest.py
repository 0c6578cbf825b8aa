"""How good the forecasts would have been: fit without a part of the rows, predict that part."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from kleiber.errors import UsageError
from kleiber.runs import Convention, Row
from kleiber.scaling.fit import fit
from kleiber.scaling.law import Interval, Prediction

__all__ = ["Cell", "coverage_frac", "leave_one_out"]


@dataclass(frozen=True)
class Cell:
    """The runs of one size and horizon, and what a law that did not see them said."""

    num_params: float
    num_tokens: float
    predicted: Prediction
    losses: tuple[float, ...]
    """One a seed."""

    @property
    def measured(self) -> float:
        """Mean loss over seeds."""
        return math.fsum(self.losses) / len(self.losses)

    @property
    def error_frac(self) -> float:
        """(predicted - measured) / measured."""
        return (self.predicted.loss - self.measured) / self.measured

    def held_frac(self, level: Literal["80", "95"] = "80") -> float:
        """Return the part of the runs that fell inside the interval, which is about single runs."""
        low, high = self._interval(level)
        return sum(low <= loss <= high for loss in self.losses) / len(self.losses)

    def half_width_frac(self, level: Literal["80", "95"] = "80") -> float:
        """Return half of the interval's width as a fraction of the predicted loss."""
        low, high = self._interval(level)
        return (high - low) / 2 / self.predicted.loss

    def _interval(self, level: Literal["80", "95"]) -> Interval:
        return self.predicted.interval_80 if level == "80" else self.predicted.interval_95


def leave_one_out(
    rows: Sequence[Row],
    *,
    by: Literal["size", "horizon"] = "size",
    convention: Convention = "total",
    num_bootstrap: int = 400,
    seed: int = 0,
) -> tuple[Cell, ...]:
    """Return a cell for each size and horizon, predicted without the rows of its size.

    Args:
        rows: A ladder's.
        by: `size` leaves out each size in turn; the smallest and the largest are extrapolated to, the others
            interpolated. `horizon` leaves out the largest number of tokens only.
        convention: Which parameters N counts.
        num_bootstrap: Refits of each law.
        seed: Of the bootstrap.

    Raises:
        DataError: Without a part, too few rows remain for a law.
    """
    if by not in ("size", "horizon"):
        raise UsageError("leave_one_out leaves out a 'size' or the largest 'horizon'.", got=by)
    cells: list[Cell] = []
    for left_out, kept in _parts(rows, by, convention):
        law = fit(kept, convention=convention, num_bootstrap=num_bootstrap, seed=seed)
        places = sorted({(float(row.num_params.by(convention)), row.num_tokens) for row in left_out})
        for size, tokens in places:
            losses = (
                r.loss for r in left_out if (r.num_params.by(convention), r.num_tokens) == (size, tokens)
            )
            cells.append(Cell(size, tokens, law.predict(size, tokens), tuple(losses)))
    return tuple(cells)


def _parts(
    rows: Sequence[Row], by: Literal["size", "horizon"], convention: Convention
) -> Iterator[tuple[list[Row], list[Row]]]:
    """Yield the rows left out and those kept."""
    keys = [row.num_tokens if by == "horizon" else row.num_params.by(convention) for row in rows]
    for part in sorted(set(keys)) if by == "size" else [max(keys)]:
        left_out = [row for row, key in zip(rows, keys, strict=True) if key == part]
        yield left_out, [row for row, key in zip(rows, keys, strict=True) if key != part]


def coverage_frac(cells: Sequence[Cell], level: Literal["80", "95"] = "80") -> float:
    """Return the part of the cells that the intervals held, a cell of several seeds counting by its runs."""
    return math.fsum(cell.held_frac(level) for cell in cells) / len(cells)
