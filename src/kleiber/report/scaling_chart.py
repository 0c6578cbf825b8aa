"""Loss against training compute: rungs, the law with its interval, the forecast and the truth on it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import altair as alt

from kleiber.report.charts import finish, inline, log_axis, loss_scale, size_colour
from kleiber.report.law_points import (
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
    layers, losses, computes = [], [], []
    exchange, convention = study_exchange(sources), study_convention(sources)
    if points := [rung_point(row, exchange, convention) for row in study_rows(sources)]:
        losses = [point["loss"] for point in points]
        computes = [point["compute"] for point in points]
        layers = [*_law_layers(sources, words), _points_layer(points, sources, words)]
    if target := _target_point(sources):
        losses += [target[key] for key in ("loss", "low95", "high95", "truth") if target[key] is not None]
        computes.append(target["compute"])
        layers += _target_layers(target, words)
    if not layers:
        return None
    x = log_axis("compute", words("compute_axis"), min(computes) / 1.5, max(computes) * 1.5, unit="flop")
    y = alt.Y("loss:Q", scale=loss_scale(losses), title=None)
    chart = alt.layer(*layers).encode(x=x, y=y)
    return finish(chart, title=words("loss_axis"), height=400, description=words("scaling_chart"))


def _law_layers(sources: Sources, words: Words) -> Iterator[alt.Chart]:
    law = sources.law
    if law is None:
        return
    exchange, rows = study_exchange(sources), law.rows
    sizes = {row.num_params.by(law.convention): format_count(row.num_params.total) for row in rows}
    every = -(-len(sizes) // _MAX_CURVES)
    shown = sorted(sizes)[::-1][::every]
    tokens = [row.num_tokens for row in rows] + ([sources.forecast.num_tokens] if sources.forecast else [])
    span = (min(tokens) / 1.5, max(tokens) * 1.5)
    widest = sources.forecast.num_params if sources.forecast else max(sizes)
    band = size_band(law, exchange, widest, span)
    yield alt.Chart(inline(band)).mark_area(style="band", clip=True).encode(y="low:Q", y2="high:Q")
    yield alt.Chart(inline(band)).mark_line(style="law", clip=True)
    curves = [point for size in shown for point in size_curve(law, exchange, size, span, sizes[size])]
    colour = size_colour(sources.size_labels, words("size_legend"))
    yield alt.Chart(inline(curves)).mark_line(style="curve", clip=True, opacity=0.75).encode(color=colour)


def _points_layer(points: list[dict[str, Any]], sources: Sources, words: Words) -> alt.Chart:
    tooltip = [
        alt.Tooltip("run:N", title=words("col_run")),
        alt.Tooltip("size:N", title=words("size_legend")),
        alt.Tooltip("tokens:N", title=words("tokens_axis")),
        alt.Tooltip("flops:N", title=words("col_flops")),
        alt.Tooltip("loss:Q", title=words("col_val_loss"), format=".4f"),
    ]
    fill = size_colour(sources.size_labels, words("size_legend"))
    layer: alt.Chart = alt.Chart(inline(points)).mark_circle(style="rung").encode(color=fill, tooltip=tooltip)
    return layer


def _target_point(sources: Sources) -> dict[str, Any] | None:
    """Return the forecast and the truth at the target's compute."""
    forecast = sources.forecast
    if forecast is None:
        return None
    target = row_of(sources.target.record) if sources.target else None
    compute = study_exchange(sources).flops(forecast.num_params, forecast.num_tokens)
    return {
        "compute": target.train_flops if target and target.train_flops else compute,
        "loss": forecast.loss,
        "low": forecast.interval_80[0],
        "high": forecast.interval_80[1],
        "low95": forecast.interval_95[0],
        "high95": forecast.interval_95[1],
        "truth": target.loss if target else None,
    }


def _target_layers(point: dict[str, Any], words: Words) -> Iterator[alt.Chart]:
    place = {key: value for key, value in point.items() if value is not None}
    chart = alt.Chart(inline([place]))
    yield chart.mark_rule(style="whisker").encode(y="low95:Q", y2="high95:Q")
    yield chart.mark_rule(style="interval").encode(y="low:Q", y2="high:Q")
    forecast = alt.Tooltip("loss:Q", title=words("figure_forecast"), format=".4f")
    yield chart.mark_point(style="forecast", filled=False).encode(tooltip=forecast)
    if point["truth"] is not None:
        truth = alt.Tooltip("truth:Q", title=words("figure_measured"), format=".4f")
        yield chart.mark_point(style="truth", filled=True).encode(y="truth:Q", tooltip=truth)
