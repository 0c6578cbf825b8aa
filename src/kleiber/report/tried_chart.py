"""Quality against bytes: every pipeline that a search tried, the front, and what was chosen."""

from __future__ import annotations

from typing import Any

import altair as alt

from kleiber.report.charts import chart_of, finish, log_axis
from kleiber.report.sources import Sources
from kleiber.report.words import Words
from kleiber.runs.receipt import Receipt, Tried
from kleiber.units import format_bytes

__all__ = ["tried_charts"]

_LINEAR_UP_TO = 0.02
"""Losses of quality around 0 that are drawn to scale; beyond, each is as far from the next as its ratio."""

_TICKS = (-0.1, -0.05, -0.02, -0.01, 0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 100, 1000)


def tried_charts(sources: Sources, words: Words) -> dict[str, dict[str, Any]]:
    """Return a chart of each receipt whose steps were searched for, by the name that its view has."""
    return {
        f"tried_{index}": _chart(run.receipt, words)
        for index, run in enumerate(sources.runs)
        if run.receipt is not None and run.receipt.tried
    }


def _chart(receipt: Receipt, words: Words) -> dict[str, Any]:
    points = [_point(one) for one in receipt.tried]
    sizes = [one["bytes"] for one in points]
    x = log_axis("bytes", words("stored_axis"), min(sizes) / 1.3, max(sizes) * 1.3, unit="flop")
    scale = alt.Scale(type="symlog", constant=_LINEAR_UP_TO)
    y = alt.Y("lost:Q", title=None, scale=scale, axis=alt.Axis(format=".0~%", values=list(_TICKS)))
    tooltip = [
        alt.Tooltip("steps:N", title=words("col_pipeline")),
        alt.Tooltip("lost:Q", title=words("quality_axis"), format=".2%"),
        alt.Tooltip("size:N", title=words("stored_axis")),
    ]
    order = alt.Order("bytes:Q")
    chart = alt.layer(
        chart_of("steps").mark_line(style="law").encode(x, y, order),
        chart_of("tried").mark_point(style="naive", filled=True).encode(x, y, tooltip=tooltip),
        chart_of("front").mark_point(style="optimum", filled=True).encode(x, y, tooltip=tooltip),
        chart_of("chosen").mark_point(style="truth", filled=True).encode(x, y, tooltip=tooltip),
    )
    data = {
        "tried": points,
        "steps": _lower_edge(points),
        "front": [_point(one) for one in receipt.tried if one.is_on_front],
        "chosen": [_point(one) for one in receipt.tried if one.is_chosen],
    }
    return finish(chart, data=data, title=words("quality_axis"), height=300, description=words("tried_chart"))


def _lower_edge(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the points from the largest to the smallest that nothing as small is better than: the front without speed."""
    edge: list[dict[str, Any]] = []
    for point in sorted(points, key=lambda one: (one["bytes"], one["lost"])):
        if not edge or point["lost"] < edge[-1]["lost"]:
            edge.append(point)
    return edge[::-1]


def _point(one: Tried) -> dict[str, Any]:
    return {
        "steps": " ".join(one.steps),
        "lost": float(f"{one.quality_loss:.4g}"),
        "bytes": one.stored_bytes,
        "size": format_bytes(one.stored_bytes),
    }
