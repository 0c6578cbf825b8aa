"""The picture of a plan: where the memory, the FLOPs and the time of one step go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kleiber.report.drawing import PICTURE_FONT, Panel, chart_page, write_drawing
from kleiber.report.plan_memory import is_over_time, memory_chart, role_says
from kleiber.report.plan_shares import kinds_chart, modules_chart, time_chart
from kleiber.report.theme import DARK, FONT, LIGHT, Palette, chart_config, plan_styles, ramp
from kleiber.study.cost_document import CostPlan
from kleiber.study.place import LOCAL
from kleiber.units import format_bytes, format_count, format_flops, format_seconds

__all__ = ["write_plan_chart"]

_WIDTH, _MODULES_WIDTH, _KINDS_WIDTH = 920, 390, 380
"""Of the plots [px]; what the lower two leave is for the names of the right one."""
_BELOW_MEMORY, _BELOW_SHARES = 128, 110
"""Between plots: axis and legend of the upper one, title of the lower [px]."""
_MAX_TITLE = 80


def write_plan_chart(plan: CostPlan, path: Path) -> Path:
    """Write where the memory goes over one step, and where the FLOPs and the time go.

    Args:
        plan: What `kleiber plan` found.
        path: A `.svg` or `.png` picture, or a `.html` page that opens with no network; written whole or not at all.

    Returns:
        `path`.

    Raises:
        UsageError: Another suffix.
        StorageError: The file cannot be written.
    """
    return write_drawing(
        path,
        lambda: _picture(plan),
        lambda: _html(plan),
        refusal="--chart writes .svg, .png or .html.",
        hint="--chart plan.svg",
    )


def _html(plan: CostPlan) -> bytes:
    panels = _panels(plan)
    return chart_page(
        panels,
        {"light": _config(LIGHT, panels, FONT), "dark": _config(DARK, panels, FONT)},
        title=plan.model,
        about="what one step takes",
        lead=_usage_line(plan),
        figures=_figures(plan),
        roles=role_says(plan),
        assumptions=plan.assumptions,
    )


def _panels(plan: CostPlan) -> list[Panel]:
    where = " on one device" if plan.num_devices > 1 else ""
    memory_title = "Memory over one step" if is_over_time(plan) else "Memory at the fullest moment of a step"
    found = {
        "memory": (f"{memory_title}{where}", memory_chart(plan)),
        "modules": (f"FLOPs of one step{where}, by module", modules_chart(plan)),
        "kinds": ("FLOPs of one step, by kind of operation", kinds_chart(plan)),
        "times": (f"Time of one step{where}, by kind, and what bounds it", time_chart(plan)),
    }
    return [Panel(name, title, spec) for name, (title, spec) in found.items() if spec]


def _config(palette: Palette, panels: list[Panel], font: str) -> dict[str, Any]:
    num_roles = len({row["role"] for row in panels[0].spec["datasets"]["memory"]})
    config = chart_config(palette, num_sizes=num_roles, font=font)
    # Backward is the same colour, halfway to the card's.
    passes = [palette.accent, ramp((palette.accent, palette.card), 3)[1]]
    return config | {
        "range": config["range"] | {"category": passes},
        "style": config["style"] | plan_styles(palette),
    }


def _picture(plan: CostPlan) -> dict[str, Any]:
    """Return one specification of all charts: memory across the top, shares below it."""
    panels, palette = {panel.name: panel for panel in _panels(plan)}, LIGHT
    left, right = _columns(panels)
    columns = [
        _stacked([_sized(panels[name], width, palette) for name in names], "vconcat", _BELOW_SHARES)
        for names, width in ((left, _MODULES_WIDTH), (right, _KINDS_WIDTH))
        if names
    ]
    # A column of plots has no width of its own: the second one's distance is that between left edges.
    shares = _stacked(columns, "hconcat", _WIDTH - _KINDS_WIDTH)
    memory = _sized(panels["memory"], _WIDTH, palette)
    picture = _stacked([memory, *([shares] if columns else [])], "vconcat", _BELOW_MEMORY)
    return picture | {
        "title": _heading(plan, palette),
        "datasets": {
            name: rows for panel in panels.values() for name, rows in panel.spec["datasets"].items()
        },
        "config": _config(palette, [*panels.values()], PICTURE_FONT)
        | {"background": palette.card, "padding": 28},
    }


def _columns(panels: dict[str, Panel]) -> tuple[list[str], list[str]]:
    """Return the bars of the left and of the right column, so that both are about as high."""
    heights = {name: panel.spec["height"] for name, panel in panels.items()}
    is_kinds_left = heights.get("modules", 0) < heights.get("times", 0)
    left = ["modules", "kinds"] if is_kinds_left else ["modules"]
    right = ["times"] if is_kinds_left else ["kinds", "times"]
    return [name for name in left if name in panels], [name for name in right if name in panels]


def _stacked(specs: list[dict[str, Any]], direction: str, spacing: int) -> dict[str, Any]:
    # Flush: plots stand in line, whatever hangs around them.
    return {direction: specs, "spacing": spacing, "bounds": "flush"}


def _sized(panel: Panel, width: int, palette: Palette) -> dict[str, Any]:
    spec = {key: value for key, value in panel.spec.items() if key not in {"autosize", "datasets"}}
    title = {
        "text": panel.title, "color": palette.ink, "fontSize": 13, "fontWeight": 600, "frame": "group",
    }  # fmt: skip
    return spec | {"width": width, "title": title, "resolve": {"scale": {"color": "independent"}}}


def _heading(plan: CostPlan, palette: Palette) -> dict[str, Any]:
    name = plan.model if len(plan.model) <= _MAX_TITLE else f"…{plan.model[-_MAX_TITLE:]}"
    params, flops, seconds, peak = _figures(plan).values()
    return {
        "text": name,
        "subtitle": [
            _usage_line(plan),
            f"{params} parameters · {flops} and {seconds} a step · {peak} at the peak",
        ],
        "color": palette.ink,
        "subtitleColor": palette.muted,
        "fontSize": 21,
        "fontWeight": 600,
        "subtitleFontSize": 13,
        "subtitlePadding": 8,
        "subtitleLineHeight": 20,
        "anchor": "start",
        "frame": "group",
        "offset": 26,
    }


def _usage_line(plan: CostPlan) -> str:
    usage = plan.usage
    parts = ["training" if usage.mode == "train" else "serving", f"batch {usage.batch_size}"]
    parts += [f"{plan.context} tokens each"] if plan.context else []
    parts += [f"{usage.accumulation} micro-batches"] if usage.accumulation > 1 else []
    parts += [usage.precision, *([usage.optimizer] if usage.mode == "train" else [])]
    parts += ["activation checkpointing"] if usage.is_checkpointed else []
    device = "this machine" if plan.device == LOCAL else plan.device
    return " · ".join(
        [*parts, f"{plan.num_devices} × {device}, {plan.layout}" if plan.num_devices > 1 else device]
    )


def _figures(plan: CostPlan) -> dict[str, str]:
    return {
        "parameters": format_count(plan.num_params.total),
        "FLOPs of a step": format_flops(plan.flops.forward + plan.flops.backward),
        "time of a step": format_seconds(plan.step_time_s),
        "peak memory": format_bytes(plan.memory_bytes.peak),
    }
