"""How the answer moves with what N counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kleiber.errors import ConventionError
from kleiber.runs import CONVENTIONS, Convention, Row
from kleiber.scaling.bootstrap import estimate
from kleiber.scaling.checks import check_rows
from kleiber.scaling.forms import CHINCHILLA, Design
from kleiber.scaling.points import points_of

__all__ = ["size_exponents"]


def size_exponents(rows: Sequence[Row]) -> dict[Convention, float]:
    """Return the a of N_opt ~ C^a by each convention that the rows tell, where C = 6 N D takes the same N.

    On the same nanochat runs it was 0.54, 0.37 or 0.70: a law without its convention says nothing of the optimum.

    Args:
        rows: Of a law in N and D.
    """
    found: dict[Convention, float] = {}
    for convention in CONVENTIONS:
        try:
            check_rows(rows, convention)
        except ConventionError:
            continue
        points = points_of(rows, CHINCHILLA, convention)
        design = Design.of(points)
        theta, _ = estimate(CHINCHILLA, design, np.log([row.loss for row in rows]))
        alpha, beta = theta[0, 3:].tolist()
        found[convention] = beta / (alpha + beta)
    return found
