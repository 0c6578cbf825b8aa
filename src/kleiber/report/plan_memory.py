"""Where the memory goes over one step: what each role holds from moment to moment, the peak, the device's limit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby
from typing import Any

import altair as alt

from kleiber.cost.trace.lifetimes import ROLES
from kleiber.report.charts import chart_of, finish
from kleiber.report.plan_shares import short_path
from kleiber.study.cost_document import CostPlan, PlannedMoment
from kleiber.study.place import LOCAL
from kleiber.units import format_bytes

__all__ = ["held_parts", "is_over_time", "memory_chart", "role_says"]

_ORDER = ("libraries", "weights", "optimizer", "gradients", "inputs", "activations", "temporary")
"""From the bottom: what stays through the step first."""
_MIXED = "gradients, activations, temporary"
"""What a closed form does not tell apart in the middle of the backward pass."""
_SEEN_UP_TO = 2.0
"""A limit more times the peak than this would leave the step flat at the bottom."""
_ROOM = 1.16
"""The note of the peak stands above everything."""
_MAX_MOMENT = 60
_AREA_HEIGHT, _BAR_HEIGHT = 280, 84
_MOST_OFF_FRAC = 0.02
"""Of the peak: moments further off are those of the whole model and not of one device's part."""


def is_over_time(plan: CostPlan) -> bool:
    """Return whether there is more to show than the fullest moment."""
    if not plan.moments:
        return False
    most = max(sum(at.held_bytes.values()) for at in plan.moments)
    return abs(most / plan.memory_bytes.peak - 1) < _MOST_OFF_FRAC


def memory_chart(plan: CostPlan) -> dict[str, Any]:
    """Return the memory of a step: an area over its operations, or a bar where only the peak is known."""
    return _area(plan) if is_over_time(plan) else _bar(plan)


def held_parts(plan: CostPlan) -> dict[str, float]:
    """Return what fills the fullest moment of a closed form, by role [bytes]; adds up to the peak.

    Weights and state are always there. An optimizer's moment has all gradients; the forward pass and the loss have
    those of earlier micro-batches, and activations; the rest is temporary. Between these, in the backward pass, the
    rest is one part.
    """
    memory, moment = plan.memory_bytes, plan.fullest_moment
    rest = max(0.0, memory.peak - memory.weights - memory.optimizer)
    parts = {"weights": memory.weights, "optimizer": memory.optimizer}
    if moment.startswith("backward") and moment != "backward of the loss":
        return _filled(parts | {_MIXED: rest})
    is_optimizer, is_added = moment.startswith("optimizer"), plan.usage.accumulation > 1
    gradients = min(memory.gradients, rest) if is_optimizer or is_added else 0.0
    activations = 0.0 if is_optimizer else min(memory.activations, rest - gradients)
    parts |= {"gradients": gradients, "activations": activations, "temporary": rest - gradients - activations}
    return _filled(parts)


def _filled(parts: dict[str, float]) -> dict[str, float]:
    return {role: held for role, held in parts.items() if held > 0}


def _area(plan: CostPlan) -> dict[str, Any]:
    moments = plan.moments
    roles = [role for role in _ORDER if any(at.held_bytes.get(role) for at in moments)]
    totals = [sum(at.held_bytes.values()) for at in moments]
    at, top, phases = totals.index(max(totals)), _top(plan), _phases(moments)
    x = alt.X("at:Q", scale=alt.Scale(domain=[0, len(moments)], nice=False), axis=_phase_axis(phases))
    y = alt.Y("low:Q", title=None, scale=alt.Scale(domain=[0, top], nice=False), axis=_bytes_axis())
    layers = alt.layer(
        *_area_layers(x, y, roles), *_limit_layers(), *_peak_layers(x, is_left=at > len(moments) / 2)
    )
    data = {
        "memory": _area_rows(moments, roles),
        "phases": [{"at": start} for _, start, _ in phases[1:]],
        "peak": [{"at": at, "held": totals[at], "top": top, "text": _peak_note(plan)}],
        "limit": _limit_rows(plan),
    }
    return finish(
        layers, data=data, height=_AREA_HEIGHT, description="memory over one step, by what holds it"
    )


def _area_layers(x: alt.X, y: alt.Y, roles: Sequence[str]) -> Iterator[alt.Chart]:
    area = chart_of("memory").mark_area(interpolate="step-after")
    yield area.encode(x, y, _role_colour(roles), y2="high:Q", tooltip=_role_tooltip())
    yield chart_of("phases").mark_rule(style="phase-rule").encode(x)


def _limit_layers() -> Iterator[alt.Chart]:
    limit, held = chart_of("limit"), alt.Y("held:Q")
    yield limit.mark_rule(style="limit").encode(y=held)
    note = limit.mark_text(style="limit-note", align="left", dx=8, lineBreak="\n", baseline="middle")
    yield note.encode(x=alt.value("width"), y=held, text="text:N")


def _peak_layers(x: alt.X, *, is_left: bool) -> Iterator[alt.Chart]:
    """Yield the peak's mark, and its name on the side where there is place."""
    peak, held = chart_of("peak"), alt.Y("held:Q")
    yield peak.mark_rule(style="peak-rule").encode(x, held, y2="top:Q")
    yield peak.mark_point(style="peak", filled=True, shape="circle").encode(x, held)
    side: dict[str, Any] = {"align": "right", "dx": -8} if is_left else {"align": "left", "dx": 8}
    # Lines may pass behind the note.
    for style in ("halo", "peak-note"):
        note = peak.mark_text(style=style, baseline="top", **side)
        yield note.encode(x, alt.Y("top:Q"), text="text:N")


def _area_rows(moments: Sequence[PlannedMoment], roles: Sequence[str]) -> list[dict[str, Any]]:
    rows = []
    # The last moment lasts as long as the others.
    for index, moment in enumerate((*moments, moments[-1])):
        held = [moment.held_bytes.get(role, 0) for role in roles]
        for role, size, high in zip(roles, held, accumulate(held), strict=True):
            text = format_bytes(size)
            rows.append(
                {
                    "at": index,
                    "role": role,
                    "low": high - size,
                    "high": high,
                    "held": text,
                    "moment": moment.name,
                }
            )
    return rows


def _phases(moments: Sequence[PlannedMoment]) -> list[tuple[str, int, int]]:
    """Return name, start and end of each stretch of one phase, which the names of its moments begin with."""
    stretches, start = [], 0
    for name, group in groupby(moment.name.partition(" ")[0] for moment in moments):
        end = start + sum(1 for _ in group)
        stretches.append((name, start, end))
        start = end
    return stretches


def _phase_axis(phases: Sequence[tuple[str, int, int]]) -> alt.Axis:
    """Return an axis that has each phase's name under its middle."""
    middles = {(start + end) / 2: name for name, start, end in phases}
    label = "".join(f"datum.value == {middle} ? '{name}' : " for middle, name in middles.items())
    return alt.Axis(title=None, values=list(middles), labelExpr=f"{label}''", ticks=False, grid=False)


def _bar(plan: CostPlan) -> dict[str, Any]:
    parts = held_parts(plan)
    order = [*(role for role in _ORDER if role in parts), *(role for role in parts if role not in _ORDER)]
    high = dict(zip(order, accumulate(parts[role] for role in order), strict=True))
    top = _top(plan)
    x = alt.X("low:Q", title=None, scale=alt.Scale(domain=[0, top], nice=False), axis=_bytes_axis())
    peak, limits = plan.memory_bytes.peak, _limit_rows(plan)
    is_inner = bool(limits) and limits[0]["held"] < 0.7 * top  # the note of the peak stands on the left
    data = {
        "memory": [
            {"role": role, "low": high[role] - parts[role], "high": high[role], "held": format_bytes(parts[role]),
             "moment": plan.fullest_moment}
            for role in order
        ],
        "peak": [{"held": peak, "text": _peak_note(plan)}],
        "limit": [row | {"text": row["text"].replace("\n", " ")} for row in limits],
    }  # fmt: skip
    layers = alt.layer(
        chart_of("memory").mark_bar(height=44).encode(
            x, color=_role_colour(order), x2="high:Q", y=alt.value(56), tooltip=_role_tooltip()
        ),
        chart_of("limit").mark_rule(style="limit").encode(x=alt.X("held:Q")),
        chart_of("limit").mark_text(
            style="limit-note", align="left" if is_inner else "right", dx=6 if is_inner else -6, baseline="top"
        ).encode(x=alt.X("held:Q"), y=alt.value(0), text="text:N"),
        chart_of("peak").mark_text(style="peak-note", align="left", baseline="top").encode(
            x=alt.value(0), y=alt.value(8), text="text:N"
        ),
    )  # fmt: skip
    return finish(
        layers, data=data, height=_BAR_HEIGHT, description="memory at the fullest moment, by what holds it"
    )


def _top(plan: CostPlan) -> float:
    limits = [float(row["held"]) for row in _limit_rows(plan)]
    return _ROOM * max([plan.memory_bytes.peak, *limits])


def _peak_note(plan: CostPlan) -> str:
    return f"peak {format_bytes(plan.memory_bytes.peak)}, {short_path(plan.fullest_moment, _MAX_MOMENT)}"


def _limit_rows(plan: CostPlan) -> list[dict[str, Any]]:
    limit, peak = plan.memory_limit_bytes, plan.memory_bytes.peak
    if limit is None or not 1 / _SEEN_UP_TO <= limit / peak <= _SEEN_UP_TO:
        return []
    return [
        {
            "held": limit,
            "text": f"{'this machine' if plan.device == LOCAL else plan.device}\n{format_bytes(limit)}",
        }
    ]


def _bytes_axis() -> alt.Axis:
    return alt.Axis(
        tickCount=6, labelExpr="replace(format(datum.value, '.3~s'), regexp('([a-zA-Z]?)$'), ' $1B')"
    )


def _role_colour(roles: Sequence[str]) -> alt.Color:
    return alt.Color("role:O", scale=alt.Scale(domain=list(roles)), legend=alt.Legend(title=None))


def _role_tooltip() -> list[alt.Tooltip]:
    fields = {"moment": "moment", "role": "held by", "held": "bytes"}
    return [alt.Tooltip(f"{field}:N", title=title) for field, title in fields.items()]


def role_says(plan: CostPlan) -> str:
    """Return what each role is that holds something, in one line."""
    roles = [role for role in ROLES if any(at.held_bytes.get(role) for at in plan.moments)]
    return "; ".join(f"{role}: {ROLES[role]}" for role in roles)
