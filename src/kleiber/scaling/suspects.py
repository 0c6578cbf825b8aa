"""Rows that should not count as they stand: the same run twice, and runs that came out far above the law."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kleiber.runs import Row
from kleiber.scaling.forms import Array

__all__ = ["note_on_outliers", "outliers", "without_duplicates"]

_LEAST = 0.05
"""Of the loss: what is nearer to the law is no diverged run, however quiet the others are."""
_NUM_SPREADS = 10.0
"""Robust standard deviations above the law from which a run is named."""
_NORMAL_MAD = 1.4826
"""Standard deviation over median absolute deviation of a normal."""
_MOST_NAMED = 3


def without_duplicates(rows: Sequence[Row]) -> tuple[list[Row], str | None]:
    """Return each measurement once, and a sentence on those that were there again.

    Rows are the same when size, tokens, seed and every digit of the loss are.
    """
    found: dict[tuple[object, ...], Row] = {}
    again = []
    for row in rows:
        key = (row.num_params, row.num_tokens, row.unique_tokens, row.active_params, row.seed, row.loss)
        if key in found:
            again.append(row.run)
        found.setdefault(key, row)
    if not again:
        return list(rows), None
    many = f"{len(again)} rows say" if len(again) > 1 else "1 row says"
    return list(found.values()), (
        f"{many} exactly what another says, and count once: {_named(again)}. Runs of several seeds need a column of seeds."
    )


def outliers(residual_R: Array) -> list[int]:
    """Return the rows that lie far above the law, the farthest first.

    Args:
        residual_R: Log of measured over fitted loss.
    """
    centred = residual_R - np.median(residual_R)
    bound = max(_LEAST, _NUM_SPREADS * _NORMAL_MAD * float(np.median(np.abs(centred))))
    return [int(k) for k in np.argsort(-centred) if centred[k] > bound]


def note_on_outliers(rows: Sequence[Row], residual_R: Array, far: Sequence[int]) -> str | None:
    """Return a sentence on runs far above the law: a robust fit gives them little weight, and their noise is nobody else's.

    Args:
        rows: Of the law.
        residual_R: Log of measured over fitted loss.
        far: What `outliers` found.
    """
    if not far:
        return None
    worst, is_one = rows[far[0]], len(far) == 1
    return (
        f"{'1 run lies' if is_one else f'{len(far)} runs lie'} far above the law, {worst.run!r} by "
        f"{np.expm1(residual_R[far[0]]):.0%}: {'it' if is_one else 'they'} may have diverged or hardly begun "
        f"({_named([rows[k].run for k in far])}). {'It moves' if is_one else 'They move'} the law little and "
        f"{'is' if is_one else 'are'} no part of its noise. "
        f"""Leave out what is broken: --where 'run != "{worst.run}"'"""
    )


def _named(runs: Sequence[str]) -> str:
    rest = len(runs) - _MOST_NAMED
    return ", ".join(runs[:_MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")
