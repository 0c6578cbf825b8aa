"""The roofline of a benchmark: how fast each call computes, beside what memory and products of matrices allow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import altair as alt

from kleiber.report.charts import chart_of, finish, log_ticks
from kleiber.report.drawing import PICTURE_FONT, Panel, chart_page, write_drawing
from kleiber.report.theme import DARK, FONT, LIGHT, Palette, chart_config, plan_styles
from kleiber.runs.bench_result import BenchCall, BenchResult, BenchRow, ComputePeak
from kleiber.units import format_bytes, format_count, format_flops, format_seconds

__all__ = ["roofline", "write_bench_chart"]

_WIDTH, _HEIGHT = 860, 460
_ROOM = 2.0
"""Between the outermost points and the edges of the plot, as a ratio."""
_KINDS = {"prefill": "prompt", "decode": "tokens", "forward": "samples"}
_SHAPES = ("circle", "triangle-up", "square", "diamond", "cross")
_PER_BYTE = "format(datum.value, '~g')"
_PER_SECOND = "format(datum.value, '.3~s')"


def write_bench_chart(result: BenchResult, path: Path) -> Path:
    """Write the roofline of a benchmark.

    Args:
        result: What `kleiber bench` measured.
        path: A `.svg` or `.png` picture, or a `.html` page that opens with no network; written whole or not at all.

    Returns:
        `path`.

    Raises:
        UsageError: Another suffix.
        StorageError: The file cannot be written.
    """
    return write_drawing(
        path,
        lambda: _picture(result),
        lambda: _html(result),
        refusal="a roofline is written as .svg, .png or .html.",
        hint="--chart roofline.svg",
    )


def roofline(result: BenchResult) -> dict[str, Any]:
    """Return the chart as a Vega-Lite specification without colours."""
    points = [_point(row, call) for row in result.rows for call in row.calls]
    roofs = list(_roofs(result, points))
    x = _x([one["intensity"] for one in (*points, *roofs)])
    y = _y([one["rate"] for one in (*points, *roofs)])
    engines = list(dict.fromkeys(one["engine"] for one in points))
    series = list(dict.fromkeys(one["series"] for one in points))
    legend = alt.Legend(title=None)
    shape = alt.Shape(
        "series:N",
        scale=alt.Scale(domain=series, range=[_SHAPES[at % len(_SHAPES)] for at in range(len(series))]),
        legend=legend,
    )
    colour = alt.Color("engine:O", scale=alt.Scale(domain=engines), sort=engines, legend=legend)
    named = [one for one in roofs if one["text"]]
    chart = alt.layer(
        chart_of("roofs").mark_line(style="law").encode(x, y, alt.Detail("roof:N")),
        chart_of("above").mark_text(style="share-note", align="right", dx=-6, dy=-8).encode(x, y, text="text:N"),
        chart_of("below").mark_text(style="share-note", align="left", dx=10, dy=10).encode(x, y, text="text:N"),
        chart_of("points").mark_point(style="rung", filled=True).encode(
            x, y, colour, shape, tooltip=[alt.Tooltip(f"{key}:N", title=name) for key, name in _TOOLTIP.items()]
        ),
    )  # fmt: skip
    return finish(
        chart,
        data={
            "points": points,
            "roofs": roofs,
            "above": [one for one in named if not one["is_below"]],
            "below": [one for one in named if one["is_below"]],
        },
        height=_HEIGHT,
        title="FLOP a second",
        description="Operations a second of each call by operations for each byte that it reads, under the machine's limits",
    )


_TOOLTIP = {
    "model": "model",
    "row": "engine, precision",
    "series": "call",
    "batch": "batch",
    "time": "median",
    "reached": "of the limit",
}


def _point(row: BenchRow, call: BenchCall) -> dict[str, Any]:
    return {
        "model": row.model,
        "engine": row.engine,
        "row": row.title,
        "series": f"{_KINDS[call.kind]}, {row.precision}",
        "batch": call.batch,
        "intensity": call.flops / call.read_bytes,
        "rate": call.flops / call.p50_s.value,
        "time": format_seconds(call.p50_s.value),
        "reached": f"{call.limit_frac.value:.0%} ({call.bound})",
    }


def _roofs(result: BenchResult, points: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the corners of the lines: memory by working set from the left, products by precision to the right."""
    best = _best_peaks(result)
    rates = {one.working_set_bytes: one.bytes_per_s.value for one in result.machine.memory_rates}
    highest = max(peak.flops_per_s.value for peak in best)
    left = min(one["intensity"] for one in points) / _ROOM
    right = max([_ROOM * max(one["intensity"] for one in points), _ROOM * highest / min(rates.values())])
    for size in dict.fromkeys((min(rates), max(rates))):
        text = f"{format_bytes(rates[size])}/s of {format_bytes(size)}"
        knee = highest / rates[size]
        # Names stand on the lines where no other line ends; that of the lower line under it.
        named, is_below = left ** (5 / 6) * knee ** (1 / 6), size != min(rates)
        for place, shown in ((left, ""), (named, text), (knee, "")):
            yield _corner(text, place, place * rates[size], shown, is_below=is_below)
    for peak in best:
        rate = peak.flops_per_s.value
        text = f"{format_flops(rate)}/s in {peak.precision}"
        for place, shown in ((rate / max(rates.values()), ""), (right, text)):
            yield _corner(text, place, rate, shown, is_below=False)


def _corner(roof: str, intensity: float, rate: float, text: str, *, is_below: bool) -> dict[str, Any]:
    return {"roof": roof, "intensity": intensity, "rate": rate, "text": text, "is_below": is_below}


def _best_peaks(result: BenchResult) -> tuple[ComputePeak, ...]:
    best: dict[str, ComputePeak] = {}
    for peak in result.machine.compute_peaks:
        known = best.get(peak.precision)
        if known is None or peak.flops_per_s.value > known.flops_per_s.value:
            best[peak.precision] = peak
    return tuple(best.values())


def _x(values: list[float]) -> alt.X:
    low, high = min(values), max(values)
    axis = alt.Axis(title="FLOP a byte", values=log_ticks(low, high), labelExpr=_PER_BYTE)
    return alt.X("intensity:Q", scale=alt.Scale(type="log", domain=[low, high], nice=False), axis=axis)


def _y(values: list[float]) -> alt.Y:
    low, high = min(values) / _ROOM, max(values) * _ROOM
    axis = alt.Axis(values=log_ticks(low, high), labelExpr=_PER_SECOND)
    return alt.Y("rate:Q", title=None, scale=alt.Scale(type="log", domain=[low, high], nice=False), axis=axis)


def _config(result: BenchResult, palette: Palette, font: str) -> dict[str, Any]:
    num_engines = len({row.engine for row in result.rows})
    config = chart_config(palette, num_sizes=num_engines, font=font)
    return config | {"style": config["style"] | plan_styles(palette)}


def _picture(result: BenchResult) -> dict[str, Any]:
    config = _config(result, LIGHT, PICTURE_FONT) | {"background": LIGHT.card, "padding": 20}
    return roofline(result) | {"width": _WIDTH, "config": config, "autosize": "pad"}


def _html(result: BenchResult) -> bytes:
    return chart_page(
        [Panel("roofline", "Roofline", roofline(result))],
        {"light": _config(result, LIGHT, FONT), "dark": _config(result, DARK, FONT)},
        title=", ".join(model.name for model in result.models),
        about="how fast it runs, beside what the machine allows",
        lead=f"{result.machine.processor} · {result.settings.num_threads} threads · {result.created_at[:10]}",
        figures=_figures(result),
        roles="",
        assumptions=[_says(result), *result.says],
    )


def _figures(result: BenchResult) -> dict[str, str]:
    """Return the fastest call of each kind at the smallest batch."""
    found = {}
    for row in result.rows:
        for call in row.calls:
            if call.is_fastest and call.batch == min(result.settings.batches):
                rate = f"{format_count(call.throughput_per_s.value)}/s"
                found[f"{row.model}: {_KINDS[call.kind]}, {row.title}"] = rate
    return found


def _says(result: BenchResult) -> str:
    return (
        f"Operations and bytes are counted; times, the memory's rates and the products' peaks were measured in the same "
        f"{result.settings.num_rounds} rounds. Memory is read faster where a working set fits into a cache."
    )
