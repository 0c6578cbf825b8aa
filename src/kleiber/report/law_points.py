"""Numbers behind the law's charts: rows, budgets and curves, without a chart library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kleiber.report.sources import Sources
from kleiber.runs import Convention, Row, row_of
from kleiber.scaling import Law
from kleiber.scaling.forms import FORMS, Array
from kleiber.scaling.points import points_at
from kleiber.units import format_count, format_flops

__all__ = [
    "BUDGET_TOLERANCE",
    "Budget",
    "Exchange",
    "budgets",
    "isoflop_curve",
    "size_band",
    "size_curve",
    "study_rows",
]

BUDGET_TOLERANCE = 0.2
"""How far a run's compute may be from a budget to be shown with it."""
_NUM_BUDGETS = 4
_BUDGETS_APART = 1.8
"""Least ratio of two budgets: closer lines cannot be told apart."""
_NUM_POINTS = 48


@dataclass(frozen=True)
class Exchange:
    """How many operations a token costs at each size, so that compute, size and tokens exchange.

    Between the sizes that were counted, operations a token and parameter are interpolated over log N,
    and beyond them held: attention and head make them more than 6 in small models.
    """

    log_sizes: tuple[float, ...]
    flops_per_token_and_param: tuple[float, ...]

    @classmethod
    def of(cls, rows: Sequence[Row], convention: Convention) -> Exchange:
        """Return the exchange that the rows' counted FLOPs give, 6 a token and parameter where none were counted.

        Source:
            Kaplan et al. 2020, arXiv:2001.08361, section 2.1, for the 6.
        """
        known = {
            math.log(row.num_params.by(convention)): row.train_flops
            / row.num_tokens
            / row.num_params.by(convention)
            for row in rows
            if row.train_flops
        }
        ordered = sorted(known.items()) or [(0.0, 6.0)]
        return cls(tuple(log_n for log_n, _ in ordered), tuple(factor for _, factor in ordered))

    def flops(self, num_params: float, num_tokens: float) -> float:
        """Return the operations to train `num_params` on `num_tokens`."""
        factor = np.interp(math.log(num_params), self.log_sizes, self.flops_per_token_and_param)
        return float(factor) * num_params * num_tokens


@dataclass(frozen=True)
class Budget:
    """An amount of training compute, and the rows that spent about that much."""

    flops: float
    rows: tuple[Row, ...]

    @property
    def label(self) -> str:
        """What it is called."""
        return format_flops(self.flops)


def study_rows(sources: Sources) -> tuple[Row, ...]:
    """Return the rows the law was fitted to; before there is one, those that it would be fitted to.

    A trunk's learning rate never falls: its loss is not comparable, and it is no row.
    """
    if sources.law:
        return sources.law.rows
    cooled = (run for run in sources.ladder if run.record.recipe.train.schedule.cooldown_frac > 0)
    rows = (row_of(run.record) for run in cooled)
    return tuple(row for row in rows if row is not None)


def budgets(rows: Sequence[Row], exchange: Exchange, convention: Convention) -> list[Budget]:
    """Return the budgets at which most sizes meet, cheapest first, each apart from the others.

    Greedy: the row whose neighbours within the tolerance have the most different sizes gives the first budget,
    the best of the rows that are far from it the second, and so on.
    """
    spent = [(exchange.flops(row.num_params.by(convention), row.num_tokens), row) for row in rows]
    found: list[Budget] = []
    left = [flops for flops, _ in spent]
    while left and len(found) < _NUM_BUDGETS:
        near = [_near(flops, spent) for flops in left]
        best = max(
            near, key=lambda budget: (len({row.num_params.total for row in budget.rows}), budget.flops)
        )
        found.append(best)
        left = [flops for flops in left if abs(math.log(flops / best.flops)) > math.log(_BUDGETS_APART)]
    return sorted(found, key=lambda budget: budget.flops)


def _near(flops: float, spent: Sequence[tuple[float, Row]]) -> Budget:
    rows = tuple(row for other, row in spent if abs(math.log(other / flops)) <= math.log1p(BUDGET_TOLERANCE))
    return Budget(flops, rows)


def study_convention(sources: Sources) -> Convention:
    """Return which parameters N counts here."""
    return sources.law.convention if sources.law else "total"


def study_exchange(sources: Sources) -> Exchange:
    """Return the exchange that rungs and target give."""
    target = row_of(sources.target.record) if sources.target else None
    return Exchange.of([*study_rows(sources), *((target,) if target else ())], study_convention(sources))


def rung_point(row: Row, exchange: Exchange, convention: Convention) -> dict[str, Any]:
    """Return a row as a point of a chart, its numbers as text for the tooltip beside them."""
    compute = row.train_flops or exchange.flops(row.num_params.by(convention), row.num_tokens)
    return {
        "run": row.run,
        "size": format_count(row.num_params.total),
        "params": row.num_params.by(convention),
        "tokens": format_count(row.num_tokens),
        "compute": compute,
        "flops": format_flops(compute),
        "loss": row.loss,
    }


def size_curve(
    law: Law, exchange: Exchange, num_params: float, tokens: tuple[float, float], label: str
) -> list[dict[str, Any]]:
    """Return the law at one size as tokens grow: compute and loss."""
    grid = np.geomspace(*tokens, _NUM_POINTS)
    return [
        {"size": label, "compute": exchange.flops(num_params, num_tokens), "loss": loss}
        for num_tokens, loss in zip(grid.tolist(), _losses(law, num_params, grid), strict=True)
    ]


def size_band(
    law: Law, exchange: Exchange, num_params: float, tokens: tuple[float, float]
) -> list[dict[str, float]]:
    """Return the law at one size with its 80% interval; each point evaluates every refit, so there are few."""
    grid = np.geomspace(*tokens, _NUM_POINTS // 2).tolist()
    found = law.predictions(num_params, grid, **_as_dense(law, grid))
    lines = zip(grid, found.loss.tolist(), found.low_80.tolist(), found.high_80.tolist(), strict=True)
    return [
        {"compute": exchange.flops(num_params, num_tokens), "loss": loss, "low": low, "high": high}
        for num_tokens, loss, low, high in lines
    ]


def isoflop_curve(
    law: Law, exchange: Exchange, flops: float, sizes: tuple[float, float], top: float
) -> list[dict[str, Any]]:
    """Return the law at one budget as size grows and tokens shrink, up to a loss of `top`."""
    grid = np.geomspace(*sizes, 2 * _NUM_POINTS)
    tokens = np.array([flops / exchange.flops(num_params, 1.0) for num_params in grid.tolist()])
    label = format_flops(flops)
    points = zip(grid.tolist(), tokens.tolist(), _losses(law, grid, tokens), strict=True)
    return [
        {"budget": label, "params": num_params, "loss": loss, "tokens": format_count(num_tokens)}
        for num_params, num_tokens, loss in points
        if loss <= top
    ]


def _losses(law: Law, num_params: Array | float, num_tokens: Array) -> list[float]:
    """Return the law's own losses, of an average what it foretells; without the refits that intervals need."""
    inputs = _as_dense(law, num_tokens)
    if law.average is not None:
        foretold: list[float] = law.predictions(num_params, num_tokens, **inputs).loss.tolist()
        return foretold
    losses: list[float] = law.losses(points_at(law.shape, num_params, num_tokens, **inputs)).tolist()
    return losses


def _as_dense(law: Law, num_tokens: Any) -> dict[str, Any]:
    """Return what else a law's form asks for: the charts show new tokens and models that are not sparse."""
    dense = {"U": {"unique_tokens": num_tokens}, "S": {"active_frac": 1.0}}
    forms = [FORMS[one.form] for one in law.average.members] if law.average else [law.shape]
    needed = {name for form in forms for name in form.inputs}
    return {key: value for name, given in dense.items() if name in needed for key, value in given.items()}
