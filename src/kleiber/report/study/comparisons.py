"""What a curve says beside something else: depth against width, what was predicted, a classical method."""

from __future__ import annotations

from collections.abc import Iterator

from kleiber.report.study.figures import slope_text, value_text
from kleiber.report.study.methods import method_text
from kleiber.report.words import Words
from kleiber.study.growing.document import Curve
from kleiber.units import format_count

__all__ = ["apart", "beside"]


def apart(curve: Curve, words: Words) -> Iterator[str]:
    """Yield whether depth alone and width alone differ, where both were measured."""
    depth, width, contrast = curve.trend("depth"), curve.trend("width"), curve.contrast
    if contrast is None or depth is None or width is None or depth.kind != "power":
        return
    slopes = {"depth": slope_text(depth.slope.value), "width": slope_text(width.slope.value)}
    if contrast.differs:
        yield words("says_differs", **slopes)
    elif depth.has_trend and width.has_trend:
        yield words("says_alike", **slopes)
    else:
        yield words("says_uncompared")
    if _is_single(curve):
        yield words("says_single")


def _is_single(curve: Curve) -> bool:
    """Return whether sizes of depth or width alone are one run each, while those of both have more, with bars."""
    has_bars = any(
        point.num_runs > 1 and point.low != point.high for point in curve.points if "both" in point.lines
    )
    return has_bars and all(
        point.num_runs == 1 and point.low is None for point in curve.points if "both" not in point.lines
    )


def beside(curve: Curve, words: Words, num_epochs: float) -> Iterator[str]:
    """Yield how far off predictions are, what a classical method reaches, and how many values are only bounds."""
    if curve.prediction_error_frac is not None:
        yield words("says_predicted", error=f"{curve.prediction_error_frac:.1%}")
    if curve.baseline is not None:
        yield _against_baseline(curve, curve.baseline, words)
        if num_epochs < 1:
            yield words("says_read", share=f"{num_epochs:.1%}")
    if num_bounds := sum(point.is_bound for point in curve.points):
        yield words("says_bound", count=num_bounds, why=words(f"why_{curve.quantity}"))


def _against_baseline(curve: Curve, baseline: float, words: Words) -> str:
    said = {
        "method": method_text(curve.baseline_method or "", words),
        "value": value_text(curve.quantity, baseline),
    }
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
