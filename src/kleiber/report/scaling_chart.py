"""Loss against training compute: rungs, the law with its interval, the forecast and the truth on it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import altair as alt

from kleiber.report.charts import chart_of, finish, log_axis, loss_scale, size_colour
from kleiber.report.law_points import (
    Exchange,
    rung_point,
    size_band,
    size_curve,
    study_convention,
    study_exchange,
    study_rows,
)
from kleiber.report.sources import Sources
from kleiber.report.words import Words
from kleiber.runs import row_of
from kleiber.units import format_count

__all__ = ["scaling_chart"]

_MAX_CURVES = 6
"""Lines of the law: of a table with dozens of sizes, evenly chosen ones."""


def scaling_chart(sources: Sources, words: Words) -> dict[str, Any] | None:
    """Return loss against training compute: rungs, the law with its interval, forecast and truth."""
    exchange, convention = study_exchange(sources), study_convention(sources)
    points = [rung_point(row, exchange, convention) for row in study_rows(sources)]
    target = _target_point(sources, exchange)
    if not points and not target:
        return None
    curves, band = _law_rows(sources, exchange)
    data = {"band": band, "law": curves, "runs": points, "target": [target] if target else []}
    layers = [
        *(_law_layers(sources, words) if sources.law else ()),
        *(_run_layers(sources, words) if points else ()),
        *(_target_layers(words, is_measured="truth" in target) if target else ()),
    ]
    ends = [target[key] for key in ("loss", "low95", "high95", "truth") if key in target] if target else []
    computes = [point["compute"] for point in [*points, *data["target"]]]
    x = log_axis("compute", words("compute_axis"), min(computes) / 1.5, max(computes) * 1.5, unit="flop")
    y = alt.Y("loss:Q", scale=loss_scale([*(point["loss"] for point in points), *ends]), title=None)
    chart = alt.layer(*layers).encode(x=x, y=y)
    return finish(chart, data=data, title=words("loss_axis"), height=400, description=words("scaling_chart"))


def _law_rows(sources: Sources, exchange: Exchange) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the law at the rungs' sizes, and with its interval at the target's or else the largest."""
    law, forecast = sources.law, sources.forecast
    if law is None:
        return [], []
    sizes = {row.num_params.by(law.convention): format_count(row.num_params.total) for row in law.rows}
    every = -(-len(sizes) // _MAX_CURVES)
    shown = sorted(sizes)[::-1][::every]
    tokens = [row.num_tokens for row in law.rows] + ([forecast.num_tokens] if forecast else [])
    span = (min(tokens) / 1.5, max(tokens) * 1.5)
    curves = [point for size in shown for point in size_curve(law, exchange, size, span, sizes[size])]
    return curves, size_band(law, exchange, forecast.num_params if forecast else max(sizes), span)


def _law_layers(sources: Sources, words: Words) -> Iterator[alt.Chart]:
    colour = size_colour(sources.size_labels, words("size_legend"))
    yield chart_of("band").mark_area(style="band", clip=True).encode(y="low:Q", y2="high:Q")
    yield chart_of("band").mark_line(style="law", clip=True)
    yield chart_of("law").mark_line(style="curve", clip=True, opacity=0.75).encode(color=colour)


def _run_layers(sources: Sources, words: Words) -> Iterator[alt.Chart]:
    tooltip = [
        alt.Tooltip("run:N", title=words("col_run")),
        alt.Tooltip("size:N", title=words("size_legend")),
        alt.Tooltip("tokens:N", title=words("tokens_axis")),
        alt.Tooltip("flops:N", title=words("col_flops")),
        alt.Tooltip("loss:Q", title=words("col_val_loss"), format=".4f"),
    ]
    colour = size_colour(sources.size_labels, words("size_legend"))
    yield chart_of("runs").mark_circle(style="rung").encode(color=colour, tooltip=tooltip)


def _target_point(sources: Sources, exchange: Exchange) -> dict[str, Any] | None:
    """Return the forecast, and the truth when there is one, at the target's compute."""
    forecast = sources.forecast
    if forecast is None:
        return None
    target = row_of(sources.target.record) if sources.target else None
    compute = exchange.flops(forecast.num_params, forecast.num_tokens)
    point = {
        "compute": target.train_flops if target and target.train_flops else compute,
        "loss": forecast.loss,
        "low": forecast.interval_80[0],
        "high": forecast.interval_80[1],
        "low95": forecast.interval_95[0],
        "high95": forecast.interval_95[1],
    }
    truth = next((e.measured for e in sources.ledger if e.quantity in ("val_loss", "val_accuracy")), None)
    if truth is None and target and sources.measured_unit == "nats/token":
        truth = target.loss
    return point | ({} if truth is None else {"truth": truth})


def _target_layers(words: Words, *, is_measured: bool) -> Iterator[alt.Chart]:
    target = chart_of("target")
    yield target.mark_rule(style="whisker").encode(y="low95:Q", y2="high95:Q")
    yield target.mark_rule(style="interval").encode(y="low:Q", y2="high:Q")
    forecast = alt.Tooltip("loss:Q", title=words("figure_forecast"), format=".4f")
    yield target.mark_point(style="forecast", filled=False).encode(tooltip=forecast)
    yield _note(words("figure_forecast"), "loss", "forecast-note", line=1)
    if is_measured:
        truth = alt.Tooltip("truth:Q", title=words("figure_measured"), format=".4f")
        yield target.mark_point(style="truth", filled=True).encode(y="truth:Q", tooltip=truth)
        yield _note(words("figure_measured"), "truth", "truth-note", line=2)


def _note(name: str, field: str, style: str, *, line: int) -> alt.Chart:
    """Return a line of text under and left of the forecast, where a falling curve leaves room."""
    text = chart_of("target").transform_calculate(
        note=f"{json.dumps(name)} + ' ' + format(datum.{field}, '.4f')"
    )
    note: alt.Chart = text.mark_text(style=style, align="right", dx=-14, dy=15 * line).encode(text="note:N")
    return note
