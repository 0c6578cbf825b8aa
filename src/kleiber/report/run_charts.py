"""Charts of what runs logged: loss and learning rate against tokens."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import altair as alt

from kleiber.report.charts import COUNT_LABEL, chart_of, finish, log_axis, loss_scale, size_colour
from kleiber.report.sources import RunView, Sources
from kleiber.report.words import Words
from kleiber.units import format_count

__all__ = ["curves_chart", "rate_chart"]

_MAX_POINTS = 120
"""Points a line: more than a phone shows, few enough for a light file."""
_TOKENS_SHOWN = 50
"""Longest run over the first tokens shown."""
_TOP_QUANTILE = 0.98
"""Where the loss axis ends: the first steps fall from far above what matters."""


def curves_chart(sources: Sources, words: Words) -> dict[str, Any] | None:
    """Return training and validation loss of every run, None when nothing was logged."""
    train = [row for run in sources.runs for row in _binned(run, "loss")]
    val = [row for run in sources.runs for row in _points(run, "val_loss")]
    if not train and not val:
        return None
    tokens = max(row["tokens"] for row in train or val)
    x = log_axis("tokens", words("tokens_axis"), tokens / _TOKENS_SHOWN, tokens)
    y = alt.Y("value:Q", title=None, scale=_curve_scale(train or val, val, tokens / _TOKENS_SHOWN))
    colour = size_colour(sources.size_labels, words("size_legend"))
    chosen = alt.selection_point(fields=["size"], bind="legend")
    lines = chart_of("train").mark_line(style="thin", clip=True)
    dots = chart_of("val").mark_circle(style="faint", clip=True)
    chart = alt.layer(
        lines.encode(x, y, colour, _seen(chosen, 0.55), detail="run:N"),
        dots.encode(x, y, colour, _seen(chosen, 1.0), tooltip=_tooltip(words, words("col_val_loss"))),
    ).add_params(chosen)
    data = {"train": train, "val": val}
    return finish(chart, data=data, title=words("loss_axis"), height=340, description=words("curves_chart"))


def _seen(chosen: alt.Parameter, opacity: float) -> alt.Opacity:
    """Return the opacity of what is chosen in the legend; the rest nearly vanishes."""
    return alt.Opacity(condition=alt.when(chosen).then(alt.value(opacity)).to_dict()["condition"], value=0.05)


def _curve_scale(train: list[dict[str, Any]], val: list[dict[str, Any]], first: float) -> alt.Scale:
    """Return a scale from the lowest loss to what all but the first steps stay under."""
    shown = sorted(row["value"] for row in train if row["tokens"] >= first)
    top = shown[int(_TOP_QUANTILE * (len(shown) - 1))]
    return loss_scale([min([shown[0], *(row["value"] for row in val)]), top])


def rate_chart(sources: Sources, words: Words) -> dict[str, Any] | None:
    """Return the learning rate of every run, None when none was logged."""
    rows = [row for run in sources.runs for row in _points(run, "lr", most=_MAX_POINTS)]
    if not rows:
        return None
    axis = alt.Axis(title=words("tokens_axis"), tickCount=6, labelExpr=COUNT_LABEL)
    lines = chart_of("rate").mark_line(style="rate")
    chart = lines.encode(
        alt.X("tokens:Q", axis=axis),
        alt.Y("value:Q", axis=alt.Axis(title=None, tickCount=3)),
        detail="run:N",
        tooltip=_tooltip(words, words("rate_axis")),
    )
    description = words("rate_chart")
    return finish(chart, data={"rate": rows}, title=words("rate_axis"), height=110, description=description)


def _tooltip(words: Words, quantity: str) -> list[alt.Tooltip]:
    return [
        alt.Tooltip("run:N", title=words("col_run")),
        alt.Tooltip("size:N", title=words("size_legend")),
        alt.Tooltip("tokens:Q", title=words("col_tokens"), format=".3~s"),
        alt.Tooltip("value:Q", title=quantity, format=".4~g"),
    ]


def _row(run: RunView, tokens: float, value: float) -> dict[str, Any]:
    size = format_count(run.record.num_params.total)
    return {"run": run.record.run, "size": size, "tokens": tokens, "value": float(f"{value:.5g}")}


def _logged(run: RunView, key: str) -> list[tuple[float, float]]:
    """Return (tokens, value) of the lines that hold finite numbers; a log axis has no zero."""
    pairs = ((_number(line.get("tokens")), _number(line.get(key))) for line in run.metrics)
    return [(tokens, value) for tokens, value in pairs if tokens > 0 and not math.isnan(value)]


def _number(value: object) -> float:
    is_number = isinstance(value, int | float) and math.isfinite(value)
    return float(value) if is_number else math.nan  # type: ignore[arg-type] # mypy loses what is_number says


def _binned(run: RunView, key: str) -> Iterator[dict[str, Any]]:
    """Yield means over equal bins of the log, which keep a long run's line light and calm."""
    logged = _logged(run, key)
    width = math.ceil(len(logged) / _MAX_POINTS) or 1
    for start in range(0, len(logged), width):
        part = logged[start : start + width]
        yield _row(run, part[-1][0], sum(value for _, value in part) / len(part))


def _points(run: RunView, key: str, most: int = 10**9) -> Iterator[dict[str, Any]]:
    logged = _logged(run, key)
    every = math.ceil(len(logged) / most) or 1
    kept = [*logged[::every], *(logged[-1:] if (len(logged) - 1) % every else ())]
    return (_row(run, tokens, value) for tokens, value in kept)
