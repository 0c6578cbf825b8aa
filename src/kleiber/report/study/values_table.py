"""The tables of measured values: a row for each size, a column for each quantity of a part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kleiber.report.study.figures import value_text
from kleiber.report.words import Words
from kleiber.study.growing.document import Curve, Point, Study

__all__ = ["values_table"]


def values_table(curves: Sequence[Curve], study: Study, words: Words) -> dict[str, Any]:
    """Return the values of every size with their intervals or brackets, and beside them what was predicted."""
    head = [words("col_size"), words("col_params"), words("col_line")]
    columns: list[dict[str, str]] = []
    for curve in curves:
        head.append(words(f"name_{curve.quantity}"))
        columns.append({point.member: _measured(curve, point, words) for point in curve.points})
        if any(point.predicted for point in curve.points):
            head.append(words("key_predicted"))
            columns.append(
                {
                    point.member: value_text(curve.quantity, point.predicted)
                    for point in curve.points
                    if point.predicted
                }
            )
    rows = [
        [
            member.name.rpartition("-n")[0],
            f"{member.num_params:,}",
            words("and").join(words(f"line_{line}") for line in member.lines),
            *(column.get(member.name, words("none")) for column in columns),
        ]
        for member in study.members
        if any(member.name in column for column in columns)
    ]
    return {"head": head, "rows": rows}


def _measured(curve: Curve, point: Point, words: Words) -> str:
    said = value_text(curve.quantity, point.value)
    if point.low is not None and point.high is not None and point.low < point.high:
        low, high = (value_text(curve.quantity, end) for end in (point.low, point.high))
        said = words("with_interval", value=said, low=low, high=high) if low != high else said
    if not point.has_trained:
        return words("did_not_train", value=said)
    return words("bound_only", value=said) if point.is_bound else said
