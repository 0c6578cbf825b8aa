"""Several charts of what is compared: their colours, and one picture of them, one under the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kleiber.report.drawing import Panel
from kleiber.report.theme import Palette, chart_config, compared_styles

__all__ = ["compared_config", "stacked_picture"]

_SPACING = 165
"""Axis and legend of the upper plot, title of the lower [px]."""


def compared_config(palette: Palette, font: str) -> dict[str, Any]:
    """Return the configuration of charts that set laws beside each other.

    Args:
        palette: Colours.
        font: Family of all text.
    """
    config = chart_config(palette, num_sizes=1, font=font)
    return config | {"style": config["style"] | compared_styles(palette)}


def stacked_picture(
    panels: Sequence[Panel], config: dict[str, Any], palette: Palette, *, width: int
) -> dict[str, Any]:
    """Return one specification of all panels, each under its title.

    Args:
        panels: From top to bottom.
        config: Of all charts.
        palette: Colours of titles and of the ground.
        width: Of the plots [px].
    """
    return {
        "vconcat": [_sized(panel, width, palette) for panel in panels],
        "spacing": _SPACING,
        "bounds": "flush",
        "resolve": {"scale": dict.fromkeys(("color", "shape", "x", "y"), "independent")},
        "datasets": {
            f"{panel.name}/{name}": rows for panel in panels for name, rows in panel.spec["datasets"].items()
        },
        "config": config | {"background": palette.card, "padding": 28},
    }


def _sized(panel: Panel, width: int, palette: Palette) -> dict[str, Any]:
    kept = {key: value for key, value in panel.spec.items() if key not in {"autosize", "datasets"}}
    title = {
        "text": panel.title, "color": palette.ink, "fontSize": 13, "fontWeight": 600, "frame": "group",
    }  # fmt: skip
    subtitle = panel.spec.get("title")
    if isinstance(subtitle, str):
        title |= {"subtitle": subtitle, "subtitleColor": palette.muted}
    renamed: dict[str, Any] = _renamed(kept, panel.name)
    return renamed | {"width": width, "title": title}


def _renamed(value: Any, panel: str) -> Any:
    """Return a specification whose named data are the panel's own: panels may use one name for different rows."""
    if isinstance(value, list):
        return [_renamed(one, panel) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key: {"name": f"{panel}/{one['name']}"}
        if key == "data" and isinstance(one, dict) and set(one) == {"name"}
        else _renamed(one, panel)
        for key, one in value.items()
    }
