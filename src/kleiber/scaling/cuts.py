"""Where rows are cut into a cheap part to fit and a dear part to foretell, by compute."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kleiber.scaling.forms import Array

__all__ = ["Cut", "cuts_at"]

_ROUNDING = 1e-6
"""Budgets that differ by less are the same."""


@dataclass(frozen=True)
class Cut:
    """Rows on both sides of a gap in compute; those inside the gap are in neither part."""

    flops: float
    """Of the dearest row that is fitted [FLOP]."""
    factor: float
    """Every row of the dear part takes at least so much more."""
    cheap: npt.NDArray[np.intp]
    dear: npt.NDArray[np.intp]


def cuts_at(flops_R: Array, factor: float, *, most: int = 4, least_rows: int = 15) -> tuple[Cut, ...]:
    """Return cuts whose dear part takes at least `factor` times the compute of the cheap part's dearest row.

    They are spread evenly in log compute, from the first that leaves `least_rows` to fit to the last that leaves a row
    to foretell.

    Args:
        flops_R: Compute of the rows.
        factor: At least 1.
        most: Cuts.
        least_rows: Of a cheap part: three for each coefficient of Chinchilla's form.

    Example:
        >>> found = cuts_at(10.0 ** np.arange(5), 10.0, least_rows=2)
        >>> [(cut.cheap.tolist(), cut.dear.tolist()) for cut in found]
        [([0, 1], [2, 3, 4]), ([0, 1, 2], [3, 4]), ([0, 1, 2, 3], [4])]
    """
    ordered = np.sort(flops_R)
    if len(ordered) <= least_rows or ordered[least_rows - 1] * factor > ordered[-1] * (1 + _ROUNDING):
        return ()
    ends = np.geomspace(ordered[least_rows - 1], max(ordered[-1] / factor, ordered[least_rows - 1]), most)
    found: dict[float, Cut] = {}
    for end in ends:
        flops = float(ordered[ordered <= end * (1 + _ROUNDING)][-1])
        cheap = np.flatnonzero(flops_R <= flops)
        dear = np.flatnonzero(flops_R >= factor * flops * (1 - _ROUNDING))
        found.setdefault(flops, Cut(flops, factor, cheap, dear))
    return tuple(found.values())
