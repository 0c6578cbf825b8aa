"""What a curve says, in sentences made of its numbers."""

from __future__ import annotations

from collections.abc import Iterator

from kleiber.report.study.charts import has_linear_axis
from kleiber.report.study.figures import factor_texts, slope_text, tenfold_text, value_text
from kleiber.report.words import Words
from kleiber.study.growing.document import Curve
from kleiber.study.growing.trend import Trend
from kleiber.units import format_count

__all__ = ["finding_of", "more_of", "tenfold_figure"]


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
    value, low, high = tenfold_text(quantity, trend)
    bounds = {"low": low, "high": high, "sizes": trend.num_sizes, "name": name}
    if trend.kind == "per_decade":
        if trend.has_trend:
            return words("says_adds", change=value, **bounds)
        return words("says_no_change", **bounds)
    if not trend.has_trend:
        return words("says_no_trend", **bounds)
    return words("says_rises" if trend.slope.value > 0 else "says_falls", factor=value, **bounds)


def more_of(curve: Curve, words: Words, *, num_epochs: float = 1.0) -> list[str]:
    """Return what else a curve says: exponent, floor, depth against width, prediction, baseline, bounds.

    Args:
        curve: What was found.
        words: The language.
        num_epochs: Passes over the training data in each run.
    """
    return [
        *_exponent(curve, words),
        *([words("says_linear")] if has_linear_axis(curve) else []),
        *_floor(curve, words),
        *_apart(curve, words),
        *_beside(curve, words, num_epochs),
    ]


def _exponent(curve: Curve, words: Words) -> Iterator[str]:
    trend = curve.trend("both")
    if trend is not None and trend.kind == "power":
        yield words(
            "says_exponent",
            **_slopes(trend),
            sizes=trend.num_sizes,
            decades=f"{trend.decades:.1f}",
        )


def _slopes(trend: Trend) -> dict[str, str]:
    slope = trend.slope
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
        level=f"{floor.A:.3g}",
        alpha=slope_text(floor.alpha.value),
        floor_low=f"{floor.E.low:.3g}",
        floor_high=f"{floor.E.high:.3g}",
        alpha_low=slope_text(floor.alpha.low),
        alpha_high=slope_text(floor.alpha.high),
    )


def _apart(curve: Curve, words: Words) -> Iterator[str]:
    depth, width, contrast = curve.trend("depth"), curve.trend("width"), curve.contrast
    if contrast is None or depth is None or width is None or depth.kind != "power":
        return
    key = "says_differs" if contrast.differs else "says_alike"
    yield words(key, depth=slope_text(depth.slope.value), width=slope_text(width.slope.value))


def _beside(curve: Curve, words: Words, num_epochs: float) -> Iterator[str]:
    if curve.prediction_error_frac is not None:
        yield words("says_predicted", error=f"{curve.prediction_error_frac:.1%}")
    if curve.baseline is not None:
        yield _against_baseline(curve, curve.baseline, words)
        if num_epochs < 1:
            yield words("says_read", share=f"{num_epochs:.1%}")
    if num_bounds := sum(point.is_bound for point in curve.points):
        yield words("says_bound", count=num_bounds, why=words(f"why_{curve.quantity}"))


def _against_baseline(curve: Curve, baseline: float, words: Words) -> str:
    said = {"method": curve.baseline_method, "value": value_text(curve.quantity, baseline)}
    together = [point for point in curve.points if "both" in point.lines]
    # The size from which on every larger one is better too.
    better = None
    for point in reversed(together):
        if point.value >= baseline:
            break
        better = point
    if better is None:
        return words("says_none_below", **said)
    if better is together[0]:
        return words("says_all_below", **said)
    return words("says_below_baseline", params=format_count(better.num_params), **said)


def tenfold_figure(curve: Curve, words: Words) -> tuple[str, str] | None:
    """Return what ten times the parameters make of a quantity, with its interval; None without a power law."""
    trend = curve.trend("both")
    if trend is None or trend.kind != "power":
        return None
    value, low, high = factor_texts(trend.tenfold())
    return f"× {value}", f"{'' if trend.has_trend else words('no_trend')}95% {low} – {high}"
