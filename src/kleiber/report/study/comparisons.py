"""What a curve says beside something else: depth against width, what was predicted, a classical method."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kleiber.report.study.figures import slope_text, value_text
from kleiber.report.study.methods import method_text, note_text
from kleiber.report.words import Words
from kleiber.study.growing.design import Line
from kleiber.study.growing.document import Curve, Point
from kleiber.units import format_count

__all__ = ["apart", "beside"]


def apart(curve: Curve, words: Words) -> Iterator[str]:
    """Yield whether depth alone and width alone differ, where both were measured."""
    depth, width, contrast = curve.trend("depth"), curve.trend("width"), curve.contrast
    if contrast is None or depth is None or width is None or depth.kind != "power":
        return
    is_empty = depth.is_empty or width.is_empty
    slopes = {"depth": slope_text(depth.slope.value), "width": slope_text(width.slope.value)}
    has_trends = depth.has_trend and width.has_trend
    if contrast.differs and is_empty and has_trends:
        found = contrast.difference
        ends = {"difference": found.value, "low": found.low, "high": found.high}
        yield words("says_differs_by", **{name: slope_text(end) for name, end in ends.items()})
    elif contrast.differs and not is_empty:
        yield words("says_differs", **slopes)
    elif has_trends and not is_empty:
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
    """Yield how far off predictions are, what a classical method reaches, and which values are bounds or missing."""
    if curve.prediction_error_frac is not None:
        error = f"{curve.prediction_error_frac:.1%}"
        if curve.worst_error_frac is None:
            yield words("says_predicted", error=error)
        else:
            yield words("says_predicted_worst", error=error, worst=f"{curve.worst_error_frac:.0%}")
    if curve.baseline is not None:
        yield _against_baseline(curve, curve.baseline, words)
        yield from (note_text(note, words) for note in curve.baseline_notes)
        if num_epochs < 1:
            yield words("says_read", share=f"{num_epochs:.1%}")
    if num_bounds := sum(point.is_bound for point in curve.points):
        yield words("says_bound", count=num_bounds, why=words(f"why_{curve.quantity}"))
    if num_untrained := sum(not point.has_trained for point in curve.points):
        yield words("says_untrained", count=num_untrained)
    if curve.num_without_value:
        why = words(f"without_{curve.why_without or 'not_measured'}")
        yield words("says_without", count=curve.num_without_value, why=why)


def _better_from(points: Sequence[Point], baseline: float) -> Point | None:
    """Return the size of a line from which on every larger one is better too."""
    better = None
    for point in reversed(points):
        if point.value >= baseline:
            break
        better = point
    return better


def _against_baseline(curve: Curve, baseline: float, words: Words) -> str:
    said = {
        "method": method_text(curve.baseline_method or "", words),
        "value": value_text(curve.quantity, baseline),
    }
    together = [point for point in curve.points if "both" in point.lines]
    better = _better_from(together, baseline)
    ways: tuple[Line, ...] = ("depth", "width")
    others = [
        _better_from([point for point in curve.points if line in point.lines], baseline) for line in ways
    ]
    first = min((point for point in others if point), key=lambda point: point.num_params, default=None)
    if better is None:
        if first is None:
            return words("says_none_below", **said)
        return words("says_other_below", params=format_count(first.num_params), **said)
    if better is together[0] and all(point.value < baseline for point in curve.points):
        return words("says_all_below", **said)
    if first is not None and first.num_params < better.num_params:
        return words(
            "says_below_earlier",
            first=format_count(first.num_params),
            line=words(f"line_{next(line for line in ways if line in first.lines)}"),
            params=format_count(better.num_params),
            **said,
        )
    return words("says_below_baseline", params=format_count(better.num_params), **said)
