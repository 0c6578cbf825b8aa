"""Where the FLOPs and the time of a step go: bars by module and by kind of operation."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import altair as alt

from kleiber.report.charts import FLOP_LABEL, chart_of, finish
from kleiber.study.cost_document import CostPlan, PlannedModule
from kleiber.units import format_flops, format_seconds

__all__ = ["kinds_chart", "module_shares", "modules_chart", "short_path", "time_chart"]

_MAX_BARS = 12
"""The rest is one more."""
_OTHERS = "others"
_ROW_HEIGHT = 24
_NOTE_ROOM = 1.5
"""Bars end where the longest one's note still has place."""
_MAX_NAME = 26
_SECONDS_LABEL = "datum.value == 0 ? '0 s' : datum.value < 1 ? format(datum.value * 1e3, '.3~s') + ' ms' : format(datum.value, '.3~s') + ' s'"


def modules_chart(plan: CostPlan) -> dict[str, Any] | None:
    """Return operations by module, the largest first, forward and backward; None when there are none."""
    shares = module_shares(plan.modules)
    if not shares:
        return None
    rows = [
        {"name": name, "pass": direction, "value": float(flops), "text": format_flops(flops)}
        for name, passes in shares
        for direction, flops in zip(("forward", "backward"), passes, strict=True)
        if flops
    ]
    totals = {name: float(sum(passes)) for name, passes in shares}
    directions = list(dict.fromkeys(str(row["pass"]) for row in rows))
    colour = alt.Color(
        "pass:N", scale=alt.Scale(domain=directions, range="category"), legend=alt.Legend(title=None)
    )
    bars = chart_of("modules").mark_bar(style="share", height={"band": 0.68}).encode(
        _x(totals.values(), FLOP_LABEL),
        _y(list(totals)),
        colour,
        order=alt.Order("pass:N", sort="descending"),
        tooltip=_tooltip(name="module", **{"pass": "pass"}, text="operations"),
    )  # fmt: skip
    notes = _notes(totals, {name: format_flops(flops) for name, flops in totals.items()})
    return _finish("modules", bars, rows, notes, "operations of a step by module")


def module_shares(modules: Sequence[PlannedModule]) -> list[tuple[str, tuple[int, int]]]:
    """Return forward and backward operations of the innermost modules shown, the largest first [FLOP].

    What is left of the whole, of modules beyond a dozen and of what the outer ones do themselves, is 'others'.
    """
    whole, *_ = modules
    paths = [module.path for module in modules]
    inner = [
        one for one in modules if one.path and not any(path.startswith(f"{one.path}.") for path in paths)
    ]
    inner = inner or [whole]
    inner.sort(key=lambda module: -module.forward_flops - module.backward_flops)
    shown = {
        module.path or module.type_name: (module.forward_flops, module.backward_flops)
        for module in inner[:_MAX_BARS]
        if module.forward_flops + module.backward_flops
    }
    rest = (
        whole.forward_flops - sum(forward for forward, _ in shown.values()),
        whole.backward_flops - sum(backward for _, backward in shown.values()),
    )
    return [*shown.items(), *([(_OTHERS, rest)] if sum(rest) else [])]


def kinds_chart(plan: CostPlan) -> dict[str, Any] | None:
    """Return operations by kind; None when there are none."""
    flops: dict[str, float] = {kind: float(flops) for kind, flops in plan.flops.by_kind.items() if flops}
    notes = {kind: format_flops(value) for kind, value in flops.items()}
    return _bars("kinds", flops, notes, FLOP_LABEL, "operations of a step by kind")


def time_chart(plan: CostPlan) -> dict[str, Any] | None:
    """Return a device's time by kind of operation with what bounds it; None where it is not known."""
    seconds: dict[str, float] = {part.kind: part.time_s for part in plan.time_by_kind if part.time_s}
    notes: dict[str, str] = {
        part.kind: f"{format_seconds(part.time_s)} · {part.bound}" for part in plan.time_by_kind
    }
    if seconds and plan.communication_s:
        seconds |= {"communication": plan.communication_s}
        notes |= {"communication": f"{format_seconds(plan.communication_s)} · network"}
    return _bars("times", seconds, notes, _SECONDS_LABEL, "time of a step by kind of operation")


def _bars(
    data: str, values: dict[str, float], notes: dict[str, str], label: str, description: str
) -> dict[str, Any] | None:
    if not values:
        return None
    order = sorted(values, key=lambda name: -values[name])
    rows = [{"name": name, "value": values[name], "text": notes[name]} for name in order]
    bars = chart_of(data).mark_bar(style="share", height={"band": 0.68}).encode(
        _x(values.values(), label), _y(order), tooltip=_tooltip(name="kind", text="takes")
    )  # fmt: skip
    return _finish(data, bars, rows, _notes({name: values[name] for name in order}, notes), description)


def _finish(
    name: str, bars: alt.Chart, rows: list[dict[str, Any]], notes: list[dict[str, Any]], description: str
) -> dict[str, Any]:
    text = chart_of(f"{name}-notes").mark_text(style="share-note", align="left", dx=6)
    chart = alt.layer(bars, text.encode(alt.X("value:Q"), alt.Y("name:N", sort=None), text="text:N"))
    data = {name: rows, f"{name}-notes": notes}
    return finish(chart, data=data, height=_ROW_HEIGHT * len(notes), description=description)


def _notes(values: dict[str, float], notes: dict[str, str]) -> list[dict[str, Any]]:
    whole = sum(values.values())
    parts = {
        name: f"{value / whole:.0%}" if value >= 0.005 * whole else "<1%" for name, value in values.items()
    }
    return [
        {"name": name, "value": value, "text": f"{parts[name]} · {notes[name]}"}
        for name, value in values.items()
    ]


def _x(values: Iterable[float], label: str) -> alt.X:
    scale = alt.Scale(domain=[0, _NOTE_ROOM * max(values)], nice=False)
    return alt.X("value:Q", title=None, scale=scale, axis=alt.Axis(tickCount=4, labelExpr=label))


def _y(order: list[str]) -> alt.Y:
    # Names are shortened on the axis alone: two that become the same are still two bars.
    short = "".join(
        f"datum.value == {json.dumps(name)} ? {json.dumps(short_path(name, _MAX_NAME))} : " for name in order
    )
    axis = alt.Axis(grid=False, labelLimit=0, labelExpr=f"{short}datum.label", labelOverlap=False)
    return alt.Y("name:N", title=None, sort=order, axis=axis)


def short_path(path: str, length: int) -> str:
    """Return a dotted path of about this length: the longest names in it lose their ends, numbers stay.

    Example:
        >>> short_path("encoder.layers.17.self_attention.output_projection", 26)
        'enco….laye….17.self….outp…'
    """
    parts = path.split(".")
    while len(".".join(parts)) > length:
        longest = max(range(len(parts)), key=lambda index: len(parts[index]))
        if len(parts[longest]) <= 4:
            break
        parts[longest] = (
            f"{parts[longest].removesuffix('…')[:-1]}…"
            if parts[longest].endswith("…")
            else f"{parts[longest][:-2]}…"
        )
    return ".".join(parts)


def _tooltip(**fields: str) -> list[alt.Tooltip]:
    return [alt.Tooltip(f"{field}:N", title=title) for field, title in fields.items()]
