"""The chart of a curve: points with their intervals, the line of each way to grow, what was predicted, the classical baseline."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import altair as alt

from kleiber.report.charts import chart_of, finish, log_axis
from kleiber.report.study.figures import PERCENT, value_text
from kleiber.report.words import Words
from kleiber.study.growing.design import LINES, Line
from kleiber.study.growing.document import Curve, Quantity, Study
from kleiber.study.growing.trend import Trend
from kleiber.units import format_count

__all__ = ["BYTES", "bytes_chart", "curve_chart", "has_linear_axis"]

BYTES: tuple[Quantity, ...] = ("stored_bytes", "packed_bytes", "gradient_bytes", "packed_gradient_bytes")
"""That one chart shows together."""
_NUM_DRAWN = 40
"""Points of a line, which is curved on a linear axis."""
_BAR_ROOM = 3.0
"""How many times beyond its values a logarithmic axis goes for the sake of a bar; a longer one is cut at the edge."""
_HEIGHT = 280
_WHOLE, _DASHED = "whole", "dashed"
_UNITS: dict[Quantity, str] = {
    "train_flops": "FLOP",
    "step_time_s": "s",
    "peak_memory_bytes": "B",
    "stored_bytes": "B",
    "decode_s": "s",
    "forward_s": "s",
    "noise_scale": "",
}
"""Written behind a number with a prefix, such as 5 ms; other quantities are plain numbers."""
_PERCENT_LABEL = "format(datum.value, '.3~%')"


def has_linear_axis(curve: Curve) -> bool:
    """Return whether the vertical axis is not logarithmic: some value is zero or less."""
    return min(_values(curve)) <= 0


def _values(curve: Curve) -> list[float]:
    predicted = [point.predicted for point in curve.points if point.predicted]
    baseline = [] if curve.baseline is None else [curve.baseline]
    return [*(point.value for point in curve.points), *predicted, *baseline]


def curve_chart(curve: Curve, study: Study, words: Words) -> dict[str, Any]:
    """Return the chart of one quantity."""
    points = list(_point_rows(curve, words))
    fits = [
        row
        for trend in curve.trends
        if trend.leading.has_trend and not trend.is_empty
        for row in _fit_rows(trend, words(f"line_{trend.line}"))
    ]
    predicted = [{"N": one.num_params, "value": one.predicted} for one in curve.points if one.predicted]
    data: dict[str, list[dict[str, Any]]] = {"fit": fits, "points": points, "predicted": predicted}
    title = words(f"axis_{curve.quantity}", unit=words(f"in_{study.unit}s"))
    y = _y(curve.quantity, _values(curve), [row[end] for row in points for end in ("low", "high")])
    chart = alt.layer(*_layers(curve, words, data)).encode(x=_x(points, words), y=y)
    return finish(chart, data=data, title=title, height=_HEIGHT, description=title)


def bytes_chart(curves: Sequence[Curve], words: Words) -> dict[str, Any]:
    """Return the chart of what models and gradients weigh, along depth and width together."""
    points, fits = [], []
    for curve in curves:
        name = words(f"short_{curve.quantity}")
        on_it = [point for point in curve.points if "both" in point.lines]
        points += [
            {
                "N": point.num_params,
                "value": point.value,
                "line": name,
                "said": value_text(curve.quantity, point.value),
            }
            for point in on_it
        ]
        fits += [row for trend in curve.trends if trend.line == "both" for row in _fit_rows(trend, name)]
    predicted = [
        {"N": one.num_params, "value": one.predicted}
        for one in curves[0].points
        if one.predicted and "both" in one.lines
    ]
    names = [words(f"short_{curve.quantity}") for curve in curves]
    data = {"fit": fits, "points": points, "predicted": predicted}
    colour = _colour(names, names)
    layers = [
        chart_of("fit")
        .mark_line(style="curve", clip=True, opacity=0.7)
        .encode(color=colour, strokeDash=_dash()),
        chart_of("points").mark_circle(style="rung").encode(color=colour, tooltip=_tooltip(words)),
        chart_of("predicted").mark_point(style="predicted", filled=False),
    ]
    title = words("axis_stored_bytes")
    values = [point.value for curve in curves for point in curve.points if "both" in point.lines]
    chart = alt.layer(*layers).encode(x=_x(points, words), y=_y("stored_bytes", values))
    return finish(chart, data=data, title=title, height=_HEIGHT, description=title)


def _lines_of(curve: Curve) -> list[Line]:
    """Return the lines that were measured: one size of a line, which stands on another as well, is none."""
    return [line for line in LINES if sum(line in point.lines for point in curve.points) > 1]


def _point_rows(curve: Curve, words: Words) -> Iterator[dict[str, Any]]:
    """Yield each size once, under the first of its lines."""
    lines = _lines_of(curve)
    # On a logarithmic axis a bar that reaches zero goes on below the edge.
    least = -math.inf if has_linear_axis(curve) else min(_values(curve)) / (2 * _BAR_ROOM)
    for point in curve.points:
        line = next((one for one in lines if one in point.lines), point.lines[0])
        yield {
            "N": point.num_params,
            "value": point.value,
            "low": max(least, point.value if point.low is None else point.low),
            "high": point.value if point.high is None else point.high,
            "line": words(f"line_{line}"),
            "is_bound": point.is_bound,
            "has_trained": point.has_trained,
            "said": value_text(curve.quantity, point.value),
            "name": format_count(point.num_params),
        }


def _fit_rows(trend: Trend, name: str) -> Iterator[dict[str, Any]]:
    """Yield a line; of one that bends, that of all sizes dashed and that of the larger half whole."""
    if trend.upper is not None:
        yield from _piece_rows(trend, name, _DASHED)
        yield from _piece_rows(trend.upper, name, _WHOLE)
    else:
        yield from _piece_rows(trend, name, _WHOLE)


def _piece_rows(trend: Trend, name: str, piece: str) -> Iterator[dict[str, Any]]:
    low, high = math.log(trend.low_params), math.log(trend.high_params)
    for k in range(_NUM_DRAWN + 1):
        size = math.exp(low + (high - low) * k / _NUM_DRAWN)
        yield {"N": size, "value": trend.at(size), "line": name, "piece": piece}


def _layers(curve: Curve, words: Words, data: dict[str, list[dict[str, Any]]]) -> Iterator[alt.Chart]:
    names = [words(f"line_{line}") for line in LINES]
    drawn = {row["line"] for row in data["points"]}
    colour = _colour(names, [name for name in names if name in drawn])
    if curve.baseline is not None:
        data["baseline"] = [{"value": curve.baseline, "note": _baseline_note(curve, curve.baseline, words)}]
        rule = chart_of("baseline")
        span = [row["N"] for row in data["points"]]
        data["baseline"][0] |= {"N": min(span) / 1.25, "last": max(span) * 1.25}
        yield rule.mark_rule(style="baseline").encode(x2="last:Q")
        yield rule.mark_text(style="baseline-note", align="left", dx=6, dy=-7).encode(text="note:N")
    yield (
        chart_of("fit")
        .mark_line(style="curve", clip=True, opacity=0.7)
        .encode(color=colour, strokeDash=_dash())
    )
    yield (
        chart_of("points")
        .mark_rule(strokeWidth=1.2, opacity=0.5, clip=True)
        .encode(y="low:Q", y2="high:Q", color=colour)
    )
    yield (
        chart_of("points")
        .transform_filter("!datum.is_bound && datum.has_trained")
        .mark_circle(style="rung")
        .encode(color=colour, tooltip=_tooltip(words))
    )
    for kept, shape in (("datum.is_bound && datum.has_trained", "circle"), ("!datum.has_trained", "square")):
        yield (
            chart_of("points")
            .transform_filter(kept)
            .mark_point(filled=False, strokeWidth=1.6, size=60, shape=shape)
            .encode(color=colour, tooltip=_tooltip(words))
        )
    if data["predicted"]:
        yield chart_of("predicted").mark_point(style="predicted", filled=False)


def _baseline_note(curve: Curve, baseline: float, words: Words) -> str:
    return words("key_baseline", value=value_text(curve.quantity, baseline))


def _colour(names: Sequence[str], shown: Sequence[str]) -> alt.Color:
    """Return colours that are the same on every chart of these names; the legend holds those that are shown."""
    legend = alt.Legend(title=None, values=list(shown), columns=2) if len(shown) > 1 else None
    return alt.Color("line:N", scale=alt.Scale(domain=list(names)), legend=legend)


def _tooltip(words: Words) -> list[alt.Tooltip]:
    return [
        alt.Tooltip("N:Q", title=words("params_axis"), format=".3~s"),
        alt.Tooltip("said:N", title=words("col_quantity")),
        alt.Tooltip("line:N", title=words("col_line")),
    ]


def _dash() -> alt.StrokeDash:
    scale = alt.Scale(domain=[_WHOLE, _DASHED], range=[[1, 0], [5, 4]])
    return alt.StrokeDash("piece:N", scale=scale, legend=None)


def _x(points: Sequence[dict[str, Any]], words: Words) -> alt.X:
    sizes = [row["N"] for row in points]
    return log_axis("N", words("params_axis"), min(sizes) / 1.25, max(sizes) * 1.25)


def _y(quantity: Quantity, values: Sequence[float], bars: Sequence[float] = ()) -> alt.Y:
    """Return the vertical axis: logarithmic unless a value is zero or less; a bar that goes lower is cut at the edge."""
    label = _label(quantity)
    low, high = min(values), max(values)
    if low <= 0:
        low, high = min([low, *bars]), max([high, *bars])
        room = 0.06 * ((high - low) or 1)
        scale = alt.Scale(domain=[low - room * (low < 0), high + room], zero=False, nice=False)
        return alt.Y("value:Q", axis=alt.Axis(title=None, labelExpr=label), scale=scale)
    low, high = max(low / _BAR_ROOM, min([low, *bars])), min(high * _BAR_ROOM, max([high, *bars]))
    domain = [low / 1.15, high * 1.15]
    axis = alt.Axis(title=None, values=_ticks(*domain), labelExpr=label)
    return alt.Y("value:Q", axis=axis, scale=alt.Scale(type="log", domain=domain, nice=False))


def _label(quantity: Quantity) -> str:
    """Return the Vega expression that prints a value on the axis."""
    if quantity in PERCENT:
        return _PERCENT_LABEL
    if quantity not in _UNITS:
        return "format(datum.value, '.3~g')"
    # A prefix stands with its unit: 300 ms.
    unit = _UNITS[quantity]
    return f"replace(format(datum.value, '.2~s'), /([0-9.]+)(.*)/, '$1 $2{unit}')"


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers between two positive ones, fewer the more decades they span."""
    span = math.log10(high / low)
    steps: tuple[float, ...] = (1,) if span > 4 else (1, 3) if span > 2 else (1, 2, 5) if span > 0.7 else (
        1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9,
    )  # fmt: skip
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [
        tick for k in decades for step in steps if low <= (tick := float(f"{step * 10.0**k:.6g}")) <= high
    ]
