"""Backtests as charts: how far off each form was by how far it reached, and how often its intervals held."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import altair as alt

from kleiber.report.charts import chart_of, finish, log_ticks
from kleiber.report.drawing import PICTURE_FONT, Panel, chart_page, write_drawing
from kleiber.report.panels import compared_config, stacked_picture
from kleiber.report.theme import DARK, FONT, LIGHT
from kleiber.report.words import Words, read_words
from kleiber.scaling.backtest_document import Backtest, BacktestGroup
from kleiber.scaling.scores import LEAST_ERROR

__all__ = ["backtest_panels", "methods_of", "write_backtest_chart"]

_ERROR_HEIGHT, _COVERAGE_HEIGHT, _WIDTH = 300, 200, 760
_ROOM = 1.3
_PERCENT = "format(datum.value, '~%')"
_NOMINAL = {"80%": 0.8, "95%": 0.95}


def write_backtest_chart(found: Backtest, path: Path) -> Path:
    """Write the charts of a backtest.

    Args:
        found: What `kleiber backtest` found.
        path: A `.svg` or `.png` picture, or a `.html` page that opens with no network; written whole or not at all.

    Returns:
        `path`.

    Raises:
        UsageError: Another suffix.
        StorageError: The file cannot be written.
    """
    return write_drawing(
        path,
        lambda: _picture(found),
        lambda: _html(found),
        refusal="A backtest is drawn as .svg, .png or .html.",
        hint="-o backtest.html",
    )


def methods_of(found: Backtest) -> list[str]:
    """Return the methods of all groups, which colours stand for."""
    return list(dict.fromkeys(one.method for group in found.groups.values() for one in group.scores))


def backtest_panels(found: Backtest, words: Words) -> list[Panel]:
    """Return two charts for each group: errors, and how often intervals held."""
    methods = methods_of(found)
    panels = []
    for k, (name, group) in enumerate(found.groups.items()):
        of = f"{name}: " if name else ""
        panels += [
            Panel(
                f"backtest-error-{k}", of + words("backtest_error_title"), error_chart(group, methods, words)
            ),
            Panel(
                f"backtest-held-{k}", of + words("backtest_held_title"), coverage_chart(group, methods, words)
            ),
        ]
    return panels


def error_chart(group: BacktestGroup, methods: list[str], words: Words) -> dict[str, Any]:
    """Return |log error| against how far a forecast reached: each forecast faintly, each method's typical error."""
    cells: list[dict[str, Any]] = [
        {
            "method": cell.method,
            "reach": cell.reach,
            "error": max(abs(cell.log_error), LEAST_ERROR),
            "run": cell.run,
            "shown": f"{cell.log_error:+.2%}",
        }
        for cell in group.cells
    ]
    means: list[dict[str, Any]] = [
        {
            "method": one.method,
            "reach": one.factor,
            "error": max(one.error, LEAST_ERROR),
            "shown": f"{one.error:.2%}",
            "cells": one.num_cells,
        }
        for one in group.scores
    ]
    reaches = [one["reach"] for one in [*cells, *means]]
    errors = [one["error"] for one in [*cells, *means]]
    x = _log(
        "reach",
        words("backtest_reach"),
        min(reaches) / _ROOM,
        max(reaches) * _ROOM,
        "format(datum.value, ',') + 'x'",
    )
    y = _log("error", None, min(errors) / _ROOM, max(errors) * _ROOM, _PERCENT, is_x=False)
    colour = _colour(methods)
    method = alt.Tooltip("method:N", title=words("col_form"))
    shown = alt.Tooltip("shown:N", title=words("col_error"))
    chart = alt.layer(
        chart_of("cells").mark_circle(style="faint", opacity=0.3).encode(
            x, y, colour, tooltip=[method, alt.Tooltip("run:N", title=words("col_run")), shown]
        ),
        chart_of("means").mark_line(style="curve").encode(x, y, colour),
        chart_of("means").mark_circle(style="rung").encode(
            x, y, colour, tooltip=[method, shown, alt.Tooltip("cells:Q", title=words("backtest_cells"))]
        ),
    )  # fmt: skip
    return finish(
        chart,
        data={"cells": cells, "means": means},
        height=_ERROR_HEIGHT,
        title=words("backtest_error_axis"),
        description=words("backtest_error_chart"),
    )


def coverage_chart(group: BacktestGroup, methods: list[str], words: Words) -> dict[str, Any]:
    """Return how many of the cells each method's intervals held at each factor, beside what they promise."""
    rows = [
        {
            "method": one.method,
            "factor": f"{one.factor:g}x",
            "level": level,
            "held": held,
            "cells": one.num_cells,
        }
        for one in group.scores
        for level, held in (("80%", one.coverage_80), ("95%", one.coverage_95))
    ]
    nominal = [{"level": level, "held": held} for level, held in _NOMINAL.items()]
    factors = list(dict.fromkeys(str(row["factor"]) for row in rows))
    x = alt.X("factor:N", sort=factors, title=words("backtest_factor"), axis=alt.Axis(labelAngle=0))
    y = alt.Y(
        "held:Q",
        title=None,
        scale=alt.Scale(domain=[0, 1.04], nice=False),
        axis=alt.Axis(values=[0, 0.2, 0.4, 0.6, 0.8, 0.95], labelExpr=_PERCENT),
    )
    shape = alt.Shape(
        "level:N",
        scale=alt.Scale(domain=list(_NOMINAL), range=["circle", "triangle-up"]),
        legend=alt.Legend(title=words("backtest_level")),
    )
    tooltip = [
        alt.Tooltip("method:N", title=words("col_form")),
        alt.Tooltip("level:N", title=words("backtest_level")),
        alt.Tooltip("held:Q", title=words("backtest_held"), format=".0%"),
        alt.Tooltip("cells:Q", title=words("backtest_cells")),
    ]
    chart = alt.layer(
        chart_of("nominal").mark_rule(style="promise").encode(y=y),
        chart_of("held").mark_point(style="rung", filled=True).encode(
            x, y, _colour(methods), shape, xOffset=alt.XOffset("method:N", sort=methods), tooltip=tooltip
        ),
    )  # fmt: skip
    return finish(
        chart,
        data={"held": rows, "nominal": nominal},
        height=_COVERAGE_HEIGHT,
        title=words("backtest_held_axis"),
        description=words("backtest_held_chart"),
    )


def _colour(methods: list[str]) -> alt.Color:
    scale = alt.Scale(domain=methods, range="diverging")
    return alt.Color("method:O", scale=scale, sort=methods, legend=alt.Legend(title=None))


def _log(
    field: str, title: str | None, low: float, high: float, label: str, *, is_x: bool = True
) -> alt.X | alt.Y:
    channel = alt.X if is_x else alt.Y
    return channel(
        f"{field}:Q",
        scale=alt.Scale(type="log", domain=[low, high], nice=False),
        axis=alt.Axis(title=title, values=log_ticks(low, high), labelExpr=label),
    )


def _picture(found: Backtest) -> dict[str, Any]:
    panels = backtest_panels(found, read_words("en"))
    return stacked_picture(panels, compared_config(LIGHT, PICTURE_FONT), LIGHT, width=_WIDTH)


def _html(found: Backtest) -> bytes:
    best = {
        f"{f'{name}, ' if name else ''}{one.factor:g}x": f"{one.method} {one.error:.2%}"
        for name, group in found.groups.items()
        for one in _best_of(group)
    }
    return chart_page(
        backtest_panels(found, read_words("en")),
        {"light": compared_config(LIGHT, FONT), "dark": compared_config(DARK, FONT)},
        title="How good would the forecasts have been?",
        about="backtests of scaling laws",
        lead="Laws of the cheap part of the runs, asked about the dear part. Least typical error by factor:",
        figures=best,
        roles="",
        assumptions=[
            (
                f"N counts {found.convention} parameters. Rows are cut by compute: a row that is foretold takes at least the factor more "
                "than the dearest row that is fitted."
            ),
            "A point is one run that was foretold; a line joins each form's geometric mean. Errors below 0.01% count as that.",
            *(sentence for group in found.groups.values() for sentence in group.skipped),
        ],
    )


def _best_of(group: BacktestGroup) -> list[Any]:
    """Return the score of the least error at each factor."""
    factors = sorted({one.factor for one in group.scores})
    return [
        min((one for one in group.scores if one.factor == factor), key=lambda one: one.error)
        for factor in factors
    ]
