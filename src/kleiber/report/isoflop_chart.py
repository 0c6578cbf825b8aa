"""The isoFLOP view: what one budget of compute buys when it is spent on models of different sizes."""

from __future__ import annotations

from typing import Any

import altair as alt

from kleiber.report.charts import chart_of, finish, log_axis, loss_scale
from kleiber.report.law_points import budgets, isoflop_curve, rung_point, study_exchange
from kleiber.report.sources import Sources
from kleiber.report.words import Words

__all__ = ["isoflop_chart"]

_ROOM = 1.02
"""Lines end a little above the highest row: what is beyond was never near a run."""


def isoflop_chart(sources: Sources, words: Words) -> tuple[dict[str, Any], int] | None:
    """Return loss against parameters at constant compute, and how many budgets it shows; None without such a law."""
    law = sources.law
    if law is None or not {"N", "D"} <= set(law.shape.inputs):
        return None  # a law of one variable does not weigh size against tokens
    is_accuracy = law.loss_unit == "accuracy"
    exchange, convention = study_exchange(sources), law.convention
    shown = budgets(law.rows, exchange, convention)
    sizes = [float(row.num_params.by(convention)) for row in law.rows]
    span = (min(sizes) / 3, max(sizes) * 6)
    top = 1.0 if is_accuracy else _ROOM * max(row.loss for row in law.rows)
    lines = [isoflop_curve(law, exchange, budget.flops, span, top) for budget in shown]
    data = {
        "law": [row for line in lines for row in line],
        "best": [best for line in lines if (best := _interior_best(line, is_accuracy=is_accuracy))],
        "runs": [
            rung_point(row, exchange, convention) | {"budget": budget.label}
            for budget in shown
            for row in budget.rows
        ],
    }
    labels = list(dict.fromkeys(budget.label for budget in shown))
    losses = loss_scale([row["loss"] for rows in data.values() for row in rows])
    chart = _layers(labels, log_axis("params", words("params_axis"), *span), losses, words)
    description = words("isoflop_chart")
    spec = finish(chart, data=data, title=words("loss_axis"), height=340, description=description)
    return spec, len(labels)


def _layers(labels: list[str], x: alt.X, losses: alt.Scale, words: Words) -> alt.LayerChart | alt.FacetChart:
    scale = alt.Scale(domain=labels, range="category")
    colour = alt.Color("budget:O", scale=scale, legend=alt.Legend(title=words("budget_legend")))
    y = alt.Y("loss:Q", scale=losses, title=None)
    run = alt.Tooltip("run:N", title=words("col_run"))
    loss = alt.Tooltip("loss:Q", title=words("loss_axis"), format=".4f")
    size = alt.Tooltip("params:Q", title=words("params_axis"), format=".3~s")
    tokens = alt.Tooltip("tokens:N", title=words("tokens_axis"))
    return alt.layer(
        chart_of("law").mark_line(style="curve").encode(x, y, colour),
        chart_of("runs").mark_circle(style="rung").encode(x, y, colour, tooltip=[run, size, tokens, loss]),
        chart_of("best").mark_point(style="optimum", filled=True).encode(x, y, tooltip=[size, tokens, loss]),
    )


def _interior_best(line: list[dict[str, Any]], *, is_accuracy: bool) -> dict[str, Any] | None:
    """Return the lowest loss or the highest accuracy of a line, None when that is at one of its ends."""
    if not line:
        return None
    best = (max if is_accuracy else min)(line, key=lambda row: row["loss"])
    return None if best in (line[0], line[-1]) else best
