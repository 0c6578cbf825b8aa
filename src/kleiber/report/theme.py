"""The colours of the page and its charts, light and dark, written once.

The style sheet reads them as CSS variables, the charts as a Vega-Lite configuration: switching
the theme swaps both, and neither names a colour of its own.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = [
    "DARK",
    "FONT",
    "LIGHT",
    "Palette",
    "chart_config",
    "compared_styles",
    "css_variables",
    "plan_styles",
    "ramp",
]

FONT = (
    'ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", '
    '"PingFang SC", "Hiragino Sans GB", "Microsoft YaHei", "Noto Sans CJK SC", sans-serif'
)
"""Fonts that systems have: the file brings none."""
SERIF = (
    '"Iowan Old Style", "Palatino Linotype", Palatino, "Book Antiqua", Charter, Georgia, '
    '"Songti SC", "Noto Serif CJK SC", serif'
)
"""Of headings and large figures."""


@dataclass(frozen=True)
class Palette:
    """Colours of one theme as `#rrggbb`."""

    paper: str
    card: str
    ink: str
    muted: str
    line: str
    accent: str
    """Of what was predicted."""
    truth: str
    """Of what was measured."""
    naive: str
    """Of the forecasts to beat."""
    good: str
    bad: str
    sizes: tuple[str, ...]
    """Stops of a ramp from the smallest model to the largest."""


LIGHT = Palette(
    paper="#faf9f6",
    card="#ffffff",
    ink="#1f2529",
    muted="#666d73",
    line="#e5e2db",
    accent="#0c6b74",
    truth="#c2412d",
    naive="#8d9297",
    good="#2f7d4f",
    bad="#b23a2a",
    sizes=("#d9a23b", "#8fa556", "#3f978a", "#2a6f97", "#35427f"),
)
DARK = Palette(
    paper="#14181b",
    card="#1b2024",
    ink="#e8e6e1",
    muted="#9aa1a7",
    line="#2e353a",
    accent="#5cc3c9",
    truth="#ff8a70",
    naive="#868d93",
    good="#7ccf9a",
    bad="#ff9380",
    sizes=("#f0c869", "#b5cb7c", "#69c5ad", "#62a8dc", "#9c9cf0"),
)


def ramp(stops: tuple[str, ...], count: int) -> list[str]:
    """Return `count` colours evenly spaced along a ramp, its ends included.

    Example:
        >>> ramp(("#000000", "#0000ff"), 3)
        ['#000000', '#000080', '#0000ff']
    """
    if count < 2:
        return [stops[-1]]
    return [_mix(stops, position * (len(stops) - 1) / (count - 1)) for position in range(count)]


def _mix(stops: tuple[str, ...], position: float) -> str:
    left = min(int(position), len(stops) - 2)
    part = position - left
    pairs = zip(_channels(stops[left]), _channels(stops[left + 1]), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * part):02x}" for a, b in pairs)


def _channels(colour: str) -> list[int]:
    return [int(colour[start : start + 2], 16) for start in (1, 3, 5)]


def css_variables(palette: Palette) -> str:
    """Return the palette and the fonts as declarations of CSS variables.

    Example:
        >>> css_variables(LIGHT).splitlines()[0]
        '--paper: #faf9f6;'
    """
    named = {name: value for name, value in asdict(palette).items() if isinstance(value, str)}
    named |= {"sans": FONT, "serif": SERIF}
    return "\n".join(f"--{name}: {value};" for name, value in named.items())


def chart_config(
    palette: Palette, *, num_sizes: int, num_budgets: int = 1, font: str = FONT
) -> dict[str, Any]:
    """Return the Vega-Lite configuration that gives every chart this palette.

    Charts name styles (`curve`, `band`, `forecast`, `truth`, ...) instead of colours; here is what the styles are.

    Args:
        palette: Colours.
        num_sizes: Model sizes shown, coloured along the ramp.
        num_budgets: Budgets of the isoFLOP view, coloured along the ramp too.
        font: CSS font families.
    """
    text = {"labelFont": font, "titleFont": font, "labelColor": palette.muted, "titleColor": palette.muted}
    lines = {"gridColor": palette.line, "domainColor": palette.line, "tickColor": palette.line}
    return {
        "background": None,
        "padding": {"left": 2, "right": 10, "top": 4, "bottom": 2},
        "font": font,
        "view": {"stroke": None},
        "axis": text | lines | _AXIS,
        "axisX": {"grid": False, "domain": True, "ticks": True, "tickSize": 4},
        "legend": text | _LEGEND,
        "title": _TITLE | {"font": font, "color": palette.muted},
        "range": {
            "ordinal": ramp(palette.sizes, num_sizes),
            "category": ramp(palette.sizes, num_budgets),
            "diverging": [
                palette.accent,
                palette.truth,
                *palette.sizes[:2],
                palette.naive,
                palette.sizes[-1],
            ],
        },
        "style": _styles(palette),
    }


_AXIS = {
    "labelFontSize": 11, "titleFontSize": 11.5, "titleFontWeight": "normal", "titlePadding": 10, "labelPadding": 6,
    "ticks": False, "domain": False, "grid": True, "labelFlush": False, "labelOverlap": "greedy",
    "labelSeparation": 8,
}  # fmt: skip
_LEGEND = {
    "orient": "bottom", "direction": "horizontal", "titleOrient": "left", "titlePadding": 14,
    "labelFontSize": 11.5, "titleFontSize": 11.5, "titleFontWeight": "normal", "symbolSize": 70, "symbolOpacity": 1,
    "offset": 14, "columnPadding": 16, "rowPadding": 6,
}  # fmt: skip
_TITLE = {"anchor": "start", "frame": "bounds", "fontSize": 11.5, "fontWeight": "normal", "offset": 14}
"""A chart's title names its vertical axis: level text reads better than text on its side."""


def _styles(palette: Palette) -> dict[str, Any]:
    ring = {"stroke": palette.card, "strokeWidth": 1.2, "opacity": 1}
    return {
        "curve": {"strokeWidth": 1.7},
        "thin": {"strokeWidth": 1.1},
        "rate": {"color": palette.accent, "strokeWidth": 1.2, "opacity": 0.45},
        "band": {"color": palette.accent, "opacity": 0.14},
        "law": {"color": palette.accent, "strokeWidth": 2.2},
        "rung": ring | {"size": 64},
        "faint": {"size": 24},
        "interval": {"color": palette.accent, "strokeWidth": 7, "opacity": 0.38},
        "whisker": {"color": palette.accent, "strokeWidth": 1.6, "opacity": 0.7},
        "forecast": {
            "color": palette.accent,
            "size": 190,
            "shape": "diamond",
            "strokeWidth": 2,
            "opacity": 1,
        },
        "truth": ring | {"color": palette.truth, "size": 62, "shape": "circle"},
        "truth-rule": {"color": palette.truth, "strokeWidth": 1.6},
        "naive": ring | {"color": palette.naive, "size": 90, "shape": "diamond"},
        "optimum": ring | {"color": palette.card, "stroke": palette.ink, "size": 50},
        "forecast-note": {"color": palette.accent, "fontSize": 11.5, "fontWeight": 600},
        "truth-note": {"color": palette.truth, "fontSize": 11.5, "fontWeight": 600},
    }


def compared_styles(palette: Palette) -> dict[str, Any]:
    """Return the styles that only charts of backtests and of compared ladders name."""
    dots = {"strokeWidth": 1, "strokeDash": [2, 3]}
    return {
        "promise": dots | {"color": palette.ink, "opacity": 0.6},
        "nothing": {"color": palette.ink, "strokeWidth": 1},
    }


def plan_styles(palette: Palette) -> dict[str, Any]:
    """Return the styles that only the chart of a plan names."""
    note = {"fontSize": 12, "fontWeight": 600}
    dots = {"strokeWidth": 1, "strokeDash": [2, 3]}
    return {
        "peak": {"color": palette.ink, "stroke": palette.card, "strokeWidth": 1.2, "size": 62, "opacity": 1},
        "peak-rule": {"color": palette.ink, "strokeWidth": 1},
        "peak-note": note | {"color": palette.ink},
        "halo": note | {"color": palette.card, "stroke": palette.card, "strokeWidth": 4},
        "limit": {"color": palette.truth, "strokeWidth": 1.4, "strokeDash": [6, 4]},
        "limit-note": note | {"color": palette.truth},
        "phase-rule": dots | {"color": palette.ink, "opacity": 0.45},
        "share": {"color": palette.accent},
        "share-note": {"color": palette.muted, "fontSize": 11},
    }
