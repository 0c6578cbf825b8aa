"""The picture of an advice: what each route costs over the tokens that are served, and where two cost the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np

from kleiber.report.charts import COUNT_LABEL, FLOP_LABEL, chart_of, finish, log_axis, log_ticks
from kleiber.report.drawing import PICTURE_FONT, Panel, chart_page, write_drawing
from kleiber.report.theme import DARK, FONT, LIGHT, Palette, chart_config, plan_styles
from kleiber.study.advice.document import Advice, Route
from kleiber.study.advice.meter import Unit, format_cost
from kleiber.study.advice.says import break_even_says, cost_in
from kleiber.units import format_count

__all__ = ["advice_chart", "write_advice_chart"]

_WIDTH, _HEIGHT = 860, 440
_ROOM = 30.0
"""Served tokens to either side of what was asked and of where routes meet, as a ratio."""
_NUM_POINTS = 61
_USUAL = 1e12
"""Served tokens around which routes are drawn where none were asked for."""
_NAMES: dict[Unit, str] = {"usd": "US dollars", "s": "seconds", "flops": "FLOP"}


def write_advice_chart(advice: Advice, path: Path) -> Path:
    """Write what each route costs over the tokens that are served.

    Args:
        advice: What `kleiber advise` found.
        path: A `.svg` or `.png` picture, or a `.html` page that opens with no network; written whole or not at all.

    Returns:
        `path`.

    Raises:
        UsageError: Another suffix.
        StorageError: The file cannot be written.
    """
    return write_drawing(
        path,
        lambda: _picture(advice),
        lambda: _html(advice),
        refusal="--chart writes .svg, .png or .html.",
        hint="--chart advice.svg",
    )


def advice_chart(advice: Advice) -> dict[str, Any]:
    """Return the chart as a Vega-Lite specification without colours."""
    low, high = _span(advice)
    lines = [point for route in advice.routes for point in _line(advice, route, low, high)]
    costs = [point["cost"] for point in lines]
    asked = [point for point in lines if point["is_asked"]]
    meets = list(_meets(advice))
    x = log_axis("tokens", "tokens served over the model's life", low, high)
    label = FLOP_LABEL if advice.unit == "flops" else COUNT_LABEL
    y_low, y_high = min(costs) / 1.5, max(costs) * 1.5
    y = alt.Y(
        "cost:Q",
        title=None,
        scale=alt.Scale(type="log", domain=[y_low, y_high], nice=False),
        axis=alt.Axis(values=log_ticks(y_low, y_high), labelExpr=label),
    )
    titles = [route.title for route in advice.routes]
    colour = alt.Color("route:O", sort=titles, scale=alt.Scale(domain=titles), legend=alt.Legend(title=None))
    tooltip = [alt.Tooltip(f"{key}:N", title=key) for key in ("route", "size", "served", "total")]
    chart = alt.layer(
        chart_of("lines").mark_line(style="curve").encode(x, y, colour),
        chart_of("asked").mark_rule(style="peak-rule", strokeDash=[4, 4]).encode(x),
        chart_of("meets").mark_rule(style="interval").encode(x=x, x2="tokens_high:Q", y=y),
        chart_of("meets_at").mark_point(style="optimum", filled=True).encode(
            x, y, tooltip=[alt.Tooltip("says:N", title="the same cost")]
        ),
        chart_of("asked").mark_point(style="rung", filled=True).encode(x, y, colour, tooltip=tooltip),
    )  # fmt: skip
    return finish(
        chart,
        data={
            "lines": lines,
            "asked": asked,
            "meets": [one for one in meets if "tokens_high" in one],
            "meets_at": [one | {"tokens": one["at"]} for one in meets],
        },
        height=_HEIGHT,
        title=f"training and serving together [{_NAMES[advice.unit]}]",
        description="Cost of each route over the tokens that are served, and where two routes cost the same",
    )


def _span(advice: Advice) -> tuple[float, float]:
    """Return the served tokens that are drawn."""
    asked = advice.question.served_tokens
    shown = [asked] if asked else [_USUAL]
    shown += [one.served_tokens.value for one in advice.break_evens if one.served_tokens is not None]
    return min(shown) / _ROOM, max(shown) * _ROOM


def _line(advice: Advice, route: Route, low: float, high: float) -> Iterator[dict[str, Any]]:
    trained, asked = cost_in(route.train, advice.unit).value, advice.question.served_tokens
    numbers = [*np.geomspace(low, high, _NUM_POINTS).tolist(), *([asked] if asked else [])]
    for tokens in sorted(numbers):
        cost = trained + tokens * route.token_amount
        yield {
            "route": route.title,
            "size": format_count(route.num_params),
            "tokens": tokens,
            "served": format_count(tokens),
            "cost": cost,
            "total": format_cost(cost, advice.unit),
            "is_asked": tokens == asked,
        }


def _meets(advice: Advice) -> Iterator[dict[str, Any]]:
    """Yield where the first route costs as much as another, with the interval where it has an end."""
    first = advice.routes[0]
    low, high = _span(advice)
    for one in advice.break_evens:
        if one.served_tokens is None:
            continue
        at, ends = one.served_tokens.value, one.served_tokens.interval_80
        found = {
            "at": at,
            "cost": cost_in(first.train, advice.unit).value + at * first.token_amount,
            "says": break_even_says(one),
        }
        if ends is not None:
            from_, to = (low if end is None else min(max(end, low), high) for end in ends)
            found |= {"tokens": from_, "tokens_high": high if ends[1] is None else to}
        yield found


def _config(advice: Advice, palette: Palette, font: str) -> dict[str, Any]:
    config = chart_config(palette, num_sizes=len(advice.routes), font=font)
    return config | {"style": config["style"] | plan_styles(palette)}


def _picture(advice: Advice) -> dict[str, Any]:
    config = _config(advice, LIGHT, PICTURE_FONT) | {"background": LIGHT.card, "padding": 20}
    return advice_chart(advice) | {"width": _WIDTH, "config": config, "autosize": "pad"}


def _html(advice: Advice) -> bytes:
    asked, first = advice.question, advice.routes[0]
    where = f"{asked.num_devices} × {asked.device}" if asked.num_devices > 1 else asked.device
    meets = [break_even_says(one) for one in advice.break_evens]
    return chart_page(
        [Panel("advice", "Cost over served tokens", advice_chart(advice))],
        {"light": _config(advice, LIGHT, FONT), "dark": _config(advice, DARK, FONT)},
        title=f"Loss {advice.loss:.4g}: {first.title}",
        about="which way to a quality costs least",
        lead=f"{format_count(asked.served_tokens)} tokens served · {where} · {advice.created_at[:10]}",
        figures={
            one.title: format_cost(cost_in(one.total, advice.unit).value, advice.unit)
            for one in advice.routes
        },
        roles="",
        assumptions=[*advice.why, *meets, *advice.warnings, *advice.assumptions],
    )
