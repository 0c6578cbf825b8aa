"""Backtests as tables: each form at each factor."""

from __future__ import annotations

from dataclasses import dataclass

from kleiber.report.tables import EMPTY, Table, format_frac, table_of
from kleiber.report.words import Words
from kleiber.scaling.backtest_document import Backtest

__all__ = ["BacktestView", "backtest_views"]


@dataclass(frozen=True)
class BacktestView:
    """One group of rows that were backtested."""

    name: str
    """Empty where the rows were not grouped."""
    about: str
    table: Table | None
    skipped: tuple[str, ...]
    """What could not be fitted or cut, as the command says it."""
    charts: tuple[str, str]
    """Names of its charts."""


def backtest_views(found: Backtest | None, words: Words) -> list[BacktestView]:
    """Return the groups of a backtest; none without one."""
    if found is None:
        return []
    keys = (
        "form",
        "factor",
        "num_cells",
        "error",
        "worst",
        "skill",
        "interval_score",
        "coverage_80",
        "coverage_95",
    )
    views = []
    for k, (name, group) in enumerate(found.groups.items()):
        scored = sorted(group.scores, key=lambda one: (one.factor, one.error))
        rows = (
            (
                one.method,
                f"{one.factor:g}x",
                str(one.num_cells),
                format_frac(one.error),
                format_frac(one.worst),
                EMPTY if one.skill is None else f"{one.skill:+.2f}".replace("-", "−"),
                f"{one.interval_score:.3f}",
                f"{one.coverage_80:.0%}",
                f"{one.coverage_95:.0%}",
            )
            for one in scored
        )
        views.append(
            BacktestView(
                name=name,
                about=words("backtest_about", rows=group.num_rows, cells=len(group.cells)),
                table=table_of(words, keys, rows),
                skipped=group.skipped,
                charts=(f"backtest-error-{k}", f"backtest-held-{k}"),
            )
        )
    return views
