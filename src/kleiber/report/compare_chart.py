"""Two ladders beside each other: their losses, their difference with its interval, and where they cross."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import altair as alt

from kleiber.report.charts import chart_of, finish, log_axis, loss_scale
from kleiber.report.drawing import PICTURE_FONT, Panel, chart_page, write_drawing
from kleiber.report.panels import compared_config, stacked_picture
from kleiber.report.theme import DARK, FONT, LIGHT
from kleiber.report.words import Words, read_words
from kleiber.scaling.comparison_document import ComparedPair, Comparisons
from kleiber.units import format_flops

__all__ = ["compare_panels", "crossing_says", "write_compare_chart"]

_LOSS_HEIGHT, _DIFFERENCE_HEIGHT, _WIDTH = 260, 220, 760
_ROOM = 1.3


def write_compare_chart(found: Comparisons, path: Path) -> Path:
    """Write the charts of ladders that were compared.

    Args:
        found: What `kleiber fit --by` found.
        path: A `.svg` or `.png` picture, or a `.html` page that opens with no network; written whole or not at all.

    Returns:
        `path`.

    Raises:
        UsageError: Another suffix.
        StorageError: The file cannot be written.
    """
    return write_drawing(
        path,
        lambda: _picture(found),
        lambda: _html(found),
        refusal="A comparison is drawn as .svg, .png or .html.",
        hint="-o comparison.html",
    )


def compare_panels(found: Comparisons, words: Words) -> list[Panel]:
    """Return two charts for each pair: losses, and their difference."""
    panels = []
    for k, pair in enumerate(found.pairs):
        names = {"first": pair.first, "second": pair.second}
        panels += [
            Panel(f"compare-loss-{k}", words("compare_loss_title", **names), loss_chart(pair, words)),
            Panel(f"compare-difference-{k}", words("compare_title", **names), difference_chart(pair, words)),
        ]
    return panels


def crossing_says(pair: ComparedPair, words: Words) -> str:
    """Return where two laws cross, how sure that is, and whether they differ at the dearest row."""
    crossing = pair.crossing
    share = f"{crossing.crosses_frac:.0%}"
    if crossing.flops is None:
        low, high = format_flops(crossing.low_flops), format_flops(crossing.high_flops)
        return words("compare_apart", low=low, high=high, share=share)
    where = format_flops(crossing.flops)
    if crossing.interval_80 is None:
        return words("compare_crossing_unsure", flops=where, share=share)
    low, high = (format_flops(bound) for bound in crossing.interval_80)
    return words("compare_crossing", flops=where, low=low, high=high, share=share)


def loss_chart(pair: ComparedPair, words: Words) -> dict[str, Any]:
    """Return both laws along compute with the runs that they were fitted to."""
    order = [pair.first, pair.second]
    runs: list[dict[str, Any]] = [
        {
            "group": name,
            "flops": run.flops,
            "loss": run.loss,
            "run": run.run,
            "compute": format_flops(run.flops),
        }
        for name, found in ((pair.first, pair.first_runs), (pair.second, pair.second_runs))
        for run in found
    ]
    laws: list[dict[str, Any]] = [
        {"group": name, "flops": point.flops, "loss": loss}
        for point in pair.points
        for name, loss in ((pair.first, point.first_loss), (pair.second, point.second_loss))
    ]
    y = alt.Y("loss:Q", scale=loss_scale([row["loss"] for row in [*runs, *laws]]), title=None)
    colour = alt.Color(
        "group:O", scale=alt.Scale(domain=order, range="diverging"), sort=order, legend=alt.Legend(title=None)
    )
    tooltip = [
        alt.Tooltip("group:N", title=words("compare_group")),
        alt.Tooltip("run:N", title=words("col_run")),
        alt.Tooltip("compute:N", title=words("compute_axis")),
        alt.Tooltip("loss:Q", title=words("loss_axis"), format=".4f"),
    ]
    chart = alt.layer(
        chart_of("laws").mark_line(style="curve").encode(_x(pair, words), y, colour),
        chart_of("runs").mark_circle(style="faint", opacity=0.6).encode(_x(pair, words), y, colour, tooltip=tooltip),
    )  # fmt: skip
    return finish(
        chart,
        data={"laws": laws, "runs": runs},
        height=_LOSS_HEIGHT,
        title=words("loss_axis"),
        description=words("compare_loss_chart"),
    )


def difference_chart(pair: ComparedPair, words: Words) -> dict[str, Any]:
    """Return the second law's loss less the first's with its intervals; below the line the second is better."""
    points: list[dict[str, Any]] = [
        {
            "flops": point.flops,
            "compute": format_flops(point.flops),
            "difference": point.difference,
            "low": point.interval_80[0],
            "high": point.interval_80[1],
            "low95": point.interval_95[0],
            "high95": point.interval_95[1],
        }
        for point in pair.points
    ]
    ends = [value for row in points for value in (row["low"], row["high"], 0.0)]
    y = alt.Y("difference:Q", scale=loss_scale(ends, room_frac=0.15), title=None)
    x = _x(pair, words)
    tooltip = [
        alt.Tooltip("compute:N", title=words("compute_axis")),
        alt.Tooltip("difference:Q", title=words("compare_difference"), format="+.4f"),
    ]
    drawn = chart_of("points")
    layers = [
        drawn.mark_area(style="band", clip=True).encode(x, y=alt.Y("low95:Q"), y2="high95:Q"),
        drawn.mark_area(style="band", clip=True).encode(x, y=alt.Y("low:Q"), y2="high:Q"),
        chart_of("zero").mark_rule(style="nothing").encode(y=alt.Y("difference:Q")),
        drawn.mark_line(style="law", clip=True).encode(x, y, tooltip=tooltip),
        chart_of("crossing").mark_rule(style="interval", clip=True).encode(
            alt.X("low:Q"), alt.X2("high:Q"), y=alt.Y("difference:Q")
        ),
        chart_of("crossing").mark_point(style="truth", filled=True).encode(x, y),
    ]  # fmt: skip
    crossing = pair.crossing
    marks = []
    if crossing.flops is not None and _span(pair)[0] <= crossing.flops <= _span(pair)[1]:
        low, high = crossing.interval_80 or (crossing.flops, crossing.flops)
        marks = [{"flops": crossing.flops, "difference": 0.0, "low": low, "high": high}]
    return finish(
        alt.layer(*layers),
        data={"points": points, "zero": [{"difference": 0.0}], "crossing": marks},
        height=_DIFFERENCE_HEIGHT,
        title=words("compare_axis", first=pair.first, second=pair.second),
        description=words("compare_chart"),
    )


def _span(pair: ComparedPair) -> tuple[float, float]:
    return pair.points[0].flops / _ROOM, pair.points[-1].flops * _ROOM


def _x(pair: ComparedPair, words: Words) -> alt.X:
    return log_axis("flops", words("compute_axis"), *_span(pair), unit="flop")


def _picture(found: Comparisons) -> dict[str, Any]:
    panels = compare_panels(found, read_words("en"))
    return stacked_picture(panels, compared_config(LIGHT, PICTURE_FONT), LIGHT, width=_WIDTH)


def _html(found: Comparisons) -> bytes:
    words = read_words("en")
    return chart_page(
        compare_panels(found, words),
        {"light": compared_config(LIGHT, FONT), "dark": compared_config(DARK, FONT)},
        title="Is the difference real?",
        about="ladders beside each other",
        lead=f"Laws of form {found.form} by {found.by}, fitted apart, along D in proportion to N.",
        figures={},
        roles="",
        assumptions=[
            *(f"{pair.second} less {pair.first}: {crossing_says(pair, words)}" for pair in found.pairs),
            (
                f"Compute is 6 N D, and N counts {found.convention} parameters. Bands are 80% and 95% intervals of the difference "
                "between the laws, from refits of each taken as independent; a single run scatters more."
            ),
        ],
    )
