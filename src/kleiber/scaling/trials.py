"""What forms said of a ladder's own dear part: `auto` chooses by nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kleiber.errors import DataError
from kleiber.runs import Convention, Row
from kleiber.scaling.average import foretold
from kleiber.scaling.candidates import AUTO, WITH_FLOOR, candidate_of, fit_member, inputs_of
from kleiber.scaling.checks import REPEATS
from kleiber.scaling.cuts import Cut, cuts_at
from kleiber.scaling.forms import Array
from kleiber.scaling.points import flops_of

__all__ = ["Trial", "Trials", "asked_of", "trials_of"]

_NUM_CUTS, _LEAST_ROWS = 3, 10
_NEXT_FACTOR, _LEAST_FACTOR = 0.4, 2.0
_FEW_REFITS = 24
"""Of a law that is only tried: enough for the width of its interval."""


@dataclass(frozen=True)
class Trial:
    """One cut: laws of the rows below it, asked about those far above it."""

    num_rows: int
    """That were fitted."""
    log_loss_R: Array
    """Measured, of the dear rows."""
    said: Mapping[str, tuple[Array, Array]]
    """By candidate: log loss foretold [R], and the variance of a new run around it [R]."""

    def error(self, name: str, prior_cells: float = 0.0) -> float:
        """Return the root mean square of log measured over foretold.

        Args:
            name: Of a candidate that was fitted.
            prior_cells: As how many more dear rows the usual form counts, the one of median error: one row may be
                foretold by luck.
        """
        num_rows, square = len(self.log_loss_R), self._mean_square(name)
        usual = float(np.median([self._mean_square(other) for other in self.said])) if prior_cells else 0.0
        return float(np.sqrt((num_rows * square + prior_cells * usual) / (num_rows + prior_cells)))

    def _mean_square(self, name: str) -> float:
        return float(np.mean((self.log_loss_R - self.said[name][0]) ** 2))


@dataclass(frozen=True)
class Trials:
    """All cuts of a ladder at one factor."""

    factor: float | None
    """Compute of the dear rows over that of the dearest that was fitted; None where no cut is possible."""
    each: tuple[Trial, ...]
    """The cut with the fewest rows first."""

    @property
    def num_cells(self) -> int:
        """Rows foretold, each as often as it was."""
        return sum(len(one.log_loss_R) for one in self.each)


def trials_of(
    rows: Sequence[Row], for_factor: float, convention: Convention, *, floor: float = 0.0
) -> Trials:
    """Return the trials at the greatest factor, up to the one asked, that gives two cuts, or one.

    Args:
        rows: Checked, each once.
        for_factor: Compute of the run to come over that of the dearest row.
        convention: Which parameters N counts.
        floor: Loss that remains [nats/token], where it is known.
    """
    flops = np.array([flops_of(row, convention) for row in rows])
    single = Trials(None, ())
    factor = for_factor
    while factor >= min(_LEAST_FACTOR, for_factor):
        cuts = cuts_at(flops, factor, most=_NUM_CUTS, least_rows=_LEAST_ROWS)
        if len(cuts) > 1 or (cuts and not single.each):
            tried = [_trial(rows, cut, convention, floor) for cut in cuts]
            each = tuple(one for one in tried if one.said)
            if len(each) > 1:
                return Trials(factor, each)
            if each:
                single = Trials(factor, each)
        factor *= _NEXT_FACTOR
    return single


def asked_of(rows: Sequence[Row], floor: float = 0.0) -> list[str]:
    """Return the candidates for these rows: `repeated` only where runs repeat data, `WITH_FLOOR` only where a floor is known."""
    repeats = all(row.unique_tokens for row in rows) and any(
        row.num_tokens > REPEATS * (row.unique_tokens or row.num_tokens) for row in rows
    )
    usual = [name for name in AUTO if name != "repeated" or repeats]
    return [*usual, WITH_FLOOR] if floor else usual


def _trial(rows: Sequence[Row], cut: Cut, convention: Convention, floor: float) -> Trial:
    cheap, dear = [rows[int(k)] for k in cut.cheap], [rows[int(k)] for k in cut.dear]
    inputs, said = inputs_of(dear, convention), {}
    for name in asked_of(rows, floor):
        try:
            law = fit_member(candidate_of(name, floor=floor), cheap, convention, num_bootstrap=_FEW_REFITS)
        except DataError:  # too few rows for this form; another may do with them
            continue
        said[name] = foretold(law, inputs)
    return Trial(len(cheap), np.log([row.loss for row in dear]), said)
