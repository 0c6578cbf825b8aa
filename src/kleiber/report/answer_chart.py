"""The answer as a strip: the target's loss by each forecast, with the measurement across it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import altair as alt

from kleiber.report.charts import chart_of, finish, loss_scale
from kleiber.report.sources import Sources
from kleiber.report.words import Words
from kleiber.scaling import Forecast
from kleiber.units import format_accuracy, format_loss

__all__ = ["answer_chart"]

_ROW_HEIGHT = 32


def answer_chart(sources: Sources, words: Words) -> dict[str, Any] | None:
    """Return the forecasts of the target's loss, the law's with its intervals; None without a forecast."""
    if sources.forecast is None:
        return None
    rows = _rows(sources.forecast, words)
    scored = ("val_loss", "val_accuracy")
    truth = next((entry.measured for entry in sources.ledger if entry.quantity in scored), None)
    losses = [value for row in rows for value in row.values() if isinstance(value, float)]
    losses += [] if truth is None else [truth]
    scale, axis = loss_scale(losses, room_frac=0.1), alt.Axis(tickCount=5)
    x = alt.X("loss:Q", title=words("loss_axis"), scale=scale, axis=axis)
    data = {"law": rows[:1], "naive": rows[1:]}
    layers = list(_forecasts([row["method"] for row in rows], x, words))
    if truth is not None:
        shown = format_accuracy if sources.forecast.loss_unit == "accuracy" else format_loss
        data["truth"] = [{"loss": truth, "text": f"{words('key_truth')} {shown(truth)}"}]
        layers += _truth(x)
    height = _ROW_HEIGHT * len(rows)
    return finish(alt.layer(*layers), data=data, height=height, description=words("answer_chart"))


def _rows(forecast: Forecast, words: Words) -> list[dict[str, Any]]:
    (low, high), (low95, high95) = forecast.interval_80, forecast.interval_95
    intervals = {"low": low, "high": high, "low95": low95, "high95": high95}
    return [
        {"method": words("method_law"), "loss": forecast.loss} | intervals,
        {"method": words("method_log_log_line"), "loss": forecast.naive.log_log_line_loss},
        {"method": words("method_last_rung"), "loss": forecast.naive.last_rung_loss},
    ]


def _forecasts(order: list[str], x: alt.X, words: Words) -> Iterator[alt.Chart]:
    y = alt.Y("method:N", title=None, sort=order, axis=alt.Axis(grid=False, labelLimit=160))
    method = alt.Tooltip("method:N", title=words("col_method"))
    tooltip = [method, alt.Tooltip("loss:Q", title=words("loss_axis"), format=".4f")]
    law, naive = chart_of("law"), chart_of("naive")
    yield law.mark_rule(style="whisker").encode(alt.X("low95:Q"), y, x2="high95:Q")
    yield law.mark_rule(style="interval").encode(alt.X("low:Q"), y, x2="high:Q")
    yield law.mark_point(style="forecast", filled=False).encode(x, y, tooltip=tooltip)
    yield naive.mark_point(style="naive", filled=True).encode(x, y, tooltip=tooltip)


def _truth(x: alt.X) -> Iterator[alt.Chart]:
    truth = chart_of("truth")
    yield truth.mark_rule(style="truth-rule").encode(x)
    yield truth.mark_text(style="truth-note", dy=-8, baseline="bottom").encode(
        x, y=alt.value(0), text="text:N"
    )
