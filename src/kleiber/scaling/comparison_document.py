"""How ladders differ, as `comparison.json`: curves along compute that a report draws without fitting again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Literal, Self

import numpy as np

from kleiber.runs import Convention, Document, now
from kleiber.scaling.compare import compare
from kleiber.scaling.forms import rule_of_thumb_flops
from kleiber.scaling.law import Interval, Law

__all__ = ["ComparedCrossing", "ComparedPair", "ComparedPoint", "ComparedRun", "Comparisons"]

_NUM_POINTS = 41
_BEYOND = 100.0
"""How far beyond the dearest row curves are drawn."""


class ComparedRun(Document):
    """A row of one of the two."""

    run: str
    flops: float
    """6 N D."""
    loss: float


class ComparedPoint(Document):
    """Both laws at one compute."""

    flops: float
    first_loss: float
    second_loss: float
    difference: float
    """The second's loss less the first's."""
    interval_80: Interval
    interval_95: Interval


class ComparedCrossing(Document):
    """Where the better of two becomes the worse, see `Crossing`."""

    flops: float | None
    interval_80: Interval | None
    crosses_frac: float
    low_flops: float
    high_flops: float


class ComparedPair(Document):
    """Two groups: their runs, their laws along D = `tokens_per_param` N, and where those cross."""

    first: str
    second: str
    tokens_per_param: float
    first_runs: tuple[ComparedRun, ...]
    second_runs: tuple[ComparedRun, ...]
    points: tuple[ComparedPoint, ...]
    crossing: ComparedCrossing

    @classmethod
    def of_laws(cls, names: tuple[str, str], first: Law, second: Law) -> Self:
        """Return how two laws differ from their cheapest row to a hundred times the dearest.

        Args:
            names: Of the two groups.
            first: What is compared with.
            second: Of the same convention, unit and evaluation set.

        Raises:
            ConventionError: The laws count or measure in different ways.
            UsageError: A law needs more than N and D.
        """
        runs = [_runs(law) for law in (first, second)]
        spent = [run.flops for one in runs for run in one]
        grid = np.geomspace(min(spent), _BEYOND * max(spent), _NUM_POINTS).tolist()
        found = compare(first, second, grid)
        keys = ("flops", "first_loss", "second_loss", "difference", "interval_80", "interval_95")
        return cls(
            first=names[0],
            second=names[1],
            tokens_per_param=found.tokens_per_param,
            first_runs=runs[0],
            second_runs=runs[1],
            points=tuple(
                ComparedPoint.model_validate({key: getattr(one, key) for key in keys})
                for one in found.differences
            ),
            crossing=ComparedCrossing.model_validate(asdict(found.crossing)),
        )


def _runs(law: Law) -> tuple[ComparedRun, ...]:
    return tuple(
        ComparedRun(
            run=row.run,
            flops=rule_of_thumb_flops(float(row.num_params.by(law.convention)), row.num_tokens),
            loss=row.loss,
        )
        for row in law.rows
    )


class Comparisons(Document):
    """Every group beside the first."""

    version: Literal[1] = 1
    by: str
    """The column that told the groups apart."""
    form: str
    convention: Convention
    created_at: str
    pairs: tuple[ComparedPair, ...]

    @classmethod
    def of_groups(cls, by: str, laws: Mapping[str, Law], others: Sequence[str]) -> Self:
        """Return the document of laws of one form by group, each of `others` beside the first."""
        first = next(iter(laws))
        pairs = tuple(ComparedPair.of_laws((first, name), laws[first], laws[name]) for name in others)
        law = laws[first]
        return cls(by=by, form=law.form, convention=law.convention, created_at=now(), pairs=pairs)
