"""What a curve says, in sentences made of its numbers."""

from __future__ import annotations

from collections.abc import Iterator

from kleiber.report.study.charts import has_linear_axis
from kleiber.report.study.comparisons import apart, beside
from kleiber.report.study.figures import factor_text, factor_texts, slope_text, tenfold_text, value_text
from kleiber.report.words import Words
from kleiber.runs import Estimate
from kleiber.study.growing.document import Curve
from kleiber.study.growing.trend import Trend

__all__ = ["finding_of", "more_of", "tenfold_figure"]

_SLOW_SLOPE = 0.3
"""Below it ten times the parameters do not even double the memory."""


def finding_of(curve: Curve, words: Words) -> str:
    """Return the finding: what ten times the parameters do, or that nothing can be said."""
    trend, name, quantity = curve.trend("both"), words(f"name_{curve.quantity}"), curve.quantity
    values = [point.value for point in curve.points]
    if not any(values):
        most = max(point.high or 0.0 for point in curve.points)
        return words("says_never", high=value_text(quantity, most))
    if trend is None:
        return words(
            "says_points",
            name=name,
            low=value_text(quantity, min(values)),
            high=value_text(quantity, max(values)),
        )
    if trend.is_empty:
        return words("says_empty", name=name, sizes=trend.num_sizes)
    return _tenfold(curve, trend, words)


def _tenfold(curve: Curve, whole: Trend, words: Words) -> str:
    trend = whole.leading
    said = _change(curve, trend, words)
    return words("between").join([said, words("says_upper")]) if trend is not whole else said


def _change(curve: Curve, trend: Trend, words: Words) -> str:
    value, low, high = tenfold_text(curve.quantity, trend, words)
    said = {"low": low, "high": high, "sizes": trend.num_sizes, "name": words(f"name_{curve.quantity}")}
    if trend.kind == "per_decade":
        if trend.has_trend:
            return words("says_adds", change=value, **said)
        return words("says_no_change", **said)
    if not trend.has_trend:
        return words("says_no_trend", **said)
    return words("says_rises" if trend.slope.value > 0 else "says_falls", factor=value, **said)


def more_of(curve: Curve, words: Words, *, num_epochs: float = 1.0) -> list[str]:
    """Return what else a curve says: exponent, floor, depth against width, prediction, baseline, bounds.

    Args:
        curve: What was found.
        words: The language.
        num_epochs: Passes over the training data in each run.
    """
    return [
        *_exponent(curve, words),
        *([words("says_mostly_constant")] if _is_mostly_constant(curve) else []),
        *([words("says_linear")] if has_linear_axis(curve) else []),
        *_floor(curve, words),
        *apart(curve, words),
        *beside(curve, words, num_epochs),
    ]


def _exponent(curve: Curve, words: Words) -> Iterator[str]:
    trend = curve.trend("both")
    if trend is None or trend.kind != "power" or trend.is_empty:
        return
    if trend.has_trend:
        yield words(
            "says_exponent",
            **_slopes(trend.slope),
            sizes=trend.num_sizes,
            decades=f"{trend.decades:.1f}",
        )
    if trend.upper_exponent is not None:
        yield words("says_bends", **_slopes(trend.upper_exponent))


def _is_mostly_constant(curve: Curve) -> bool:
    """Return whether memory grows so slowly that most of it does not come from the model."""
    trend = curve.trend("both")
    return (
        curve.quantity == "peak_memory_bytes"
        and trend is not None
        and trend.kind == "power"
        and trend.slope.value < _SLOW_SLOPE
    )


def _slopes(slope: Estimate) -> dict[str, str]:
    return {"slope": slope_text(slope.value), "low": slope_text(slope.low), "high": slope_text(slope.high)}


def _floor(curve: Curve, words: Words) -> Iterator[str]:
    floor = curve.floor
    if floor is None:
        return
    if not floor.is_determined:
        yield words("says_no_floor")
        return
    yield words(
        "says_floor",
        floor=f"{floor.E.value:.3g}",
        level=factor_text(floor.A, 3),
        alpha=slope_text(floor.alpha.value),
        floor_low=f"{floor.E.low:.3g}",
        floor_high=f"{floor.E.high:.3g}",
        alpha_low=slope_text(floor.alpha.low),
        alpha_high=slope_text(floor.alpha.high),
    )


def tenfold_figure(curve: Curve, words: Words) -> tuple[str, str] | None:
    """Return what ten times the parameters make of a quantity, with its interval; no factor where there is no trend.

    Returns:
        None without a power law.
    """
    trend = curve.trend("both")
    if trend is None or trend.kind != "power":
        return None
    if trend.is_empty:
        return words("none"), words("cannot_say")
    value, low, high = factor_texts(trend.leading.tenfold())
    if not trend.leading.has_trend:
        return words("none"), words("no_trend", low=low, high=high)
    key = "interval_upper" if trend.upper else "interval" if trend.upper_exponent is None else "interval_bent"
    return f"× {value}", words(key, low=low, high=high)
