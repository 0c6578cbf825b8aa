"""The table of all exponents."""

from __future__ import annotations

from kleiber.report.study.figures import slope_text, tenfold_text
from kleiber.report.study.words import read_study_words
from kleiber.report.words import Words
from kleiber.study.growing.document import Study
from kleiber.study.growing.trend import Trend

__all__ = ["trend_rows"]


def trend_rows(study: Study, words: Words | None = None) -> tuple[list[str], list[list[str]]]:
    """Return the head and the rows of every trend: quantity, line, what ten times N does, exponent, interval, sizes, decades.

    Args:
        study: What was found.
        words: English where none is given.
    """
    words = words or read_study_words("en")
    columns = ("quantity", "line", "tenfold", "slope", "interval", "sizes", "decades")
    head = [words(f"col_{name}") for name in columns]
    rows = []
    for curve in study.curves:
        for trend in curve.trends:
            value, low, high = tenfold_text(curve.quantity, trend, words)
            is_power = trend.kind == "power"
            bounds = (slope_text(trend.slope.low), slope_text(trend.slope.high)) if is_power else (low, high)
            rows.append(
                [
                    words(f"name_{curve.quantity}"),
                    words(f"line_{trend.line}"),
                    _tenfold(trend, value, words),
                    slope_text(trend.slope.value) if is_power and not trend.is_empty else words("none"),
                    words("range", low=bounds[0], high=bounds[1]),
                    str(trend.num_sizes),
                    f"{trend.decades:.1f}",
                ]
            )
    return head, rows


def _tenfold(trend: Trend, value: str, words: Words) -> str:
    """Return the factor or the change; nothing where the interval holds no change, or where nothing follows from the sizes."""
    if trend.is_empty or not trend.has_trend:
        return words("none")
    return f"× {value}" if trend.kind == "power" else value
