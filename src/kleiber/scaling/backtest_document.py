"""What a backtest found, as `backtest.json`: a report draws it, and nobody has to run it again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Literal, Self

from kleiber.runs import Convention, Document, now
from kleiber.scaling.extrapolation import Foretold
from kleiber.scaling.scores import Score, scores

__all__ = ["Backtest", "BacktestGroup", "CellOfBacktest", "ScoreOfMethod"]


class CellOfBacktest(Document):
    """One dear row, and how far off a law that did not see it was."""

    method: str
    factor: float
    """That was asked."""
    reach: float
    """Compute of the row over that of the dearest row that was fitted."""
    run: str
    log_error: float
    """log(foretold / measured)."""
    half_80: float
    """Half the width of the interval, in log loss."""
    half_95: float


class ScoreOfMethod(Document):
    """One method at one factor, see `Score`."""

    method: str
    factor: float
    num_cuts: int
    num_cells: int
    error: float
    worst: float
    skill: float | None
    """None where the naive forecast was exact."""
    interval_score: float
    coverage_80: float
    coverage_95: float


class BacktestGroup(Document):
    """Of the rows that were backtested together."""

    num_rows: int
    scores: tuple[ScoreOfMethod, ...]
    cells: tuple[CellOfBacktest, ...]
    skipped: tuple[str, ...]
    """What could not be fitted or cut."""


class Backtest(Document):
    """How good forecasts of these rows would have been."""

    version: Literal[1] = 1
    convention: Convention
    created_at: str
    groups: dict[str, BacktestGroup]
    """By name; of rows without groups the name is empty."""

    @classmethod
    def of_cells(
        cls,
        found: Mapping[str, tuple[int, Sequence[Foretold], Sequence[str]]],
        convention: Convention,
    ) -> Self:
        """Return the document.

        Args:
            found: Of each group the number of rows, the forecasts and what was skipped.
            convention: Which parameters N counts.
        """
        groups = {
            name: BacktestGroup(
                num_rows=num_rows,
                scores=tuple(_score(one) for one in scores(cells)),
                cells=tuple(_cell(one) for one in cells),
                skipped=tuple(skipped),
            )
            for name, (num_rows, cells, skipped) in found.items()
        }
        return cls(convention=convention, created_at=now(), groups=groups)


def _score(one: Score) -> ScoreOfMethod:
    return ScoreOfMethod.model_validate(asdict(one) | {"skill": None if math.isnan(one.skill) else one.skill})


def _cell(one: Foretold) -> CellOfBacktest:
    return CellOfBacktest(
        method=one.method,
        factor=one.factor,
        reach=one.flops / one.cut_flops,
        run=one.run,
        log_error=one.log_foretold - one.log_measured,
        half_80=one.half_80,
        half_95=one.half_95,
    )
