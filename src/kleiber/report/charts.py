"""What all charts share: data in the file, colours by style name, one width and one voice.

A chart is a Vega-Lite specification without colours; `theme.chart_config` gives it those of the day or the night.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import altair as alt

__all__ = ["COUNT_LABEL", "chart_of", "finish", "log_axis", "loss_scale", "size_colour"]

FLOP_LABEL = "format(datum.value, '.3~s')"
"""Vega expression that prints operations as `format_flops` does."""
COUNT_LABEL = f"replace(replace({FLOP_LABEL}, 'G', 'B'), 'k', 'K')"
"""Vega expression that prints a count as `format_count` does."""
_MAX_LEGEND = 12


def chart_of(name: str) -> alt.Chart:
    """Return an empty chart of the rows that `finish` is given under this name."""
    return alt.Chart(alt.NamedData(name))


def finish(
    chart: alt.Chart | alt.LayerChart | alt.FacetChart,
    *,
    data: Mapping[str, Iterable[dict[str, Any]]],
    height: int,
    description: str,
    title: str = "",
) -> dict[str, Any]:
    """Return the specification, as wide as its place on the page and read out by its description.

    Args:
        chart: What is drawn.
        data: Rows by name; those with a number that is not finite are left out.
        height: Of the plot [px].
        description: For those who hear the page.
        title: Name and unit of the vertical axis, when it has numbers.
    """
    whole = chart.properties(width="container", height=height, description=description)
    spec: dict[str, Any] = whole.to_dict()
    del spec["$schema"], spec["config"]
    spec |= {"title": title} if title else {}
    # Joined on here and not in Altair, which would check every row against its schema.
    datasets = {name: [row for row in rows if _is_finite(row)] for name, rows in data.items()}
    return spec | {"datasets": datasets, "autosize": {"type": "fit-x", "contains": "padding"}}


def _is_finite(row: dict[str, Any]) -> bool:
    return all(not isinstance(value, float) or math.isfinite(value) for value in row.values())


def log_axis(field: str, title: str, low: float, high: float, *, unit: str = "count") -> alt.X:
    """Return a logarithmic horizontal channel from `low` to `high` with round ticks.

    Args:
        field: Name in the data.
        title: Of the axis.
        low: Where it begins, positive.
        high: Where it ends.
        unit: `count` prints a thousand million as B, `flop` as G.
    """
    label = COUNT_LABEL if unit == "count" else FLOP_LABEL
    scale = alt.Scale(type="log", domain=[low, high], nice=False)
    return alt.X(
        f"{field}:Q", scale=scale, axis=alt.Axis(title=title, values=log_ticks(low, high), labelExpr=label)
    )


def log_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten between two positive numbers; only 1 and 3 beyond three decades.

    Example:
        >>> log_ticks(8e5, 6e6)
        [1000000.0, 2000000.0, 5000000.0]
    """
    steps = (1, 2, 5) if high / low < 1e3 else (1, 3)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = (float(step * 10**decade) for decade in decades for step in steps)
    return [tick for tick in ticks if low <= tick <= high]


def size_colour(labels: Sequence[str], title: str) -> alt.Color:
    """Return the colour channel of models by size; beyond a dozen the legend says less than the tooltip."""
    legend = alt.Legend(title=title) if len(labels) <= _MAX_LEGEND else None
    return alt.Color("size:O", scale=alt.Scale(domain=list(labels)), legend=legend)


def loss_scale(losses: Sequence[float], *, room_frac: float = 0.06) -> alt.Scale:
    """Return a scale that spans the losses with a little room; losses do not start at zero."""
    low, high = min(losses), max(losses)
    room = room_frac * (high - low or 1)
    return alt.Scale(domain=[low - room, high + room], zero=False, nice=False)
