"""The form chosen by how well it foretold, not by how well it fits: `--form auto`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kleiber.errors import DataError
from kleiber.runs import Convention, Row
from kleiber.scaling.average import SINGLE, WIDENING, Average, Member
from kleiber.scaling.candidates import AUTO, CANDIDATES, fit_member, inputs_of
from kleiber.scaling.checks import REPEATS
from kleiber.scaling.cuts import Cut, cuts_at
from kleiber.scaling.forms import Array
from kleiber.scaling.points import flops_of

__all__ = ["average_of"]

_ALIKE = 2.5
"""A form takes part whose typical error is at most so many times that of the best."""
_POWER = 4
"""Of the error, that a weight is the inverse of."""
_LEAST_WEIGHT = 0.05
_LEAST_ERROR = 1e-4
"""A smaller error is luck."""
_NUM_CUTS, _LEAST_ROWS = 3, 10
_NEXT_FACTOR, _LEAST_FACTOR = 0.4, 2.0
_FEW_REFITS = 24
"""Of a law that is only backtested: enough for the width of its interval."""

Tested = list[tuple[Cut, dict[str, Member]]]


@dataclass(frozen=True)
class _Ladder:
    """Rows with what is needed of them again and again."""

    rows: Sequence[Row]
    convention: Convention
    flops_R: Array
    log_loss_R: Array

    def part(self, index: npt.NDArray[np.intp]) -> list[Row]:
        return [self.rows[int(k)] for k in index]

    def error(self, average: Average, cut: Cut) -> float:
        """Return the root mean square of log measured over foretold of the dear rows."""
        mean, _ = average.log_losses(inputs_of(self.part(cut.dear), self.convention))
        return float(np.sqrt(np.mean((self.log_loss_R[cut.dear] - mean) ** 2)))


def average_of(
    rows: Sequence[Row],
    *,
    for_factor: float = 10.0,
    convention: Convention = "total",
    num_bootstrap: int = 400,
    seed: int = 0,
) -> Average:
    """Return the laws that foretold the rows' own dear part best, weighted.

    The rows are cut by compute at several places, every candidate is fitted to the cheap part and asked about what
    takes at least `for_factor` times more (less where they do not reach so far). Forms within 2.5 times the
    best one's error take part, by the inverse fourth power of their errors. Intervals are of the members' differences, their
    refits and the noise, and of the error seen in those cells, see `Average`.

    Args:
        rows: Checked, each once.
        for_factor: Compute of the run to come over that of the dearest row.
        convention: Which parameters N counts.
        num_bootstrap: Refits of each member.
        seed: Of the bootstrap.

    Raises:
        DataError: No candidate can be fitted to the rows.
    """
    flops = np.array([flops_of(row, convention) for row in rows])
    ladder = _Ladder(rows, convention, flops, np.log([row.loss for row in rows]))
    factor, tested = _backtested(ladder, for_factor)
    errors = _errors(ladder, tested)
    weights = _weights(errors) if errors else _only(ladder)
    fitted = {
        name: fit_member(CANDIDATES[name], rows, convention, num_bootstrap=num_bootstrap, seed=seed)
        for name in weights
    }
    cells = [
        (cut, ladder.error(_bare(found, weights), cut))
        for cut, found in tested
        if any(name in found for name in weights)
    ]
    return Average(
        for_factor=for_factor,
        backtest_factor=factor,
        num_cuts=len(cells),
        num_cells=sum(len(cut.dear) for cut, _ in cells),
        error_frac=_typical(
            dict(enumerate(error for _, error in cells)), [len(cut.cheap) for cut, _ in cells]
        )
        if cells
        else None,
        widening=WIDENING,
        members=tuple(
            fitted[name].model_copy(update={"weight": weight, "backtest_error_frac": errors.get(name)})
            for name, weight in weights.items()
        ),
    )


def _backtested(ladder: _Ladder, for_factor: float) -> tuple[float | None, Tested]:
    """Return the laws of every cut at the greatest factor, up to the one asked, that gives two cuts, or one."""
    single: tuple[float | None, Tested] = (None, [])
    factor = for_factor
    while factor >= min(_LEAST_FACTOR, for_factor):
        cuts = cuts_at(ladder.flops_R, factor, most=_NUM_CUTS, least_rows=_LEAST_ROWS)
        if len(cuts) > 1 or (cuts and not single[1]):
            fitted = [(cut, _fits(ladder, cut)) for cut in cuts]
            tested = [(cut, found) for cut, found in fitted if found]
            if len(tested) > 1:
                return factor, tested
            if tested:
                single = factor, tested
        factor *= _NEXT_FACTOR
    return single


def _fits(ladder: _Ladder, cut: Cut) -> dict[str, Member]:
    kept, found = ladder.part(cut.cheap), {}
    for name in _asked(ladder.rows):
        try:
            found[name] = fit_member(CANDIDATES[name], kept, ladder.convention, num_bootstrap=_FEW_REFITS)
        except DataError:  # too few rows for this form; another may do with them
            continue
    return found


def _asked(rows: Sequence[Row]) -> list[str]:
    repeats = all(row.unique_tokens for row in rows) and any(
        row.num_tokens > REPEATS * (row.unique_tokens or row.num_tokens) for row in rows
    )
    return [name for name in AUTO if name != "repeated" or repeats]


def _errors(ladder: _Ladder, tested: Tested) -> dict[str, float]:
    """Return the typical error of each candidate that could be fitted at half of the cuts or more.

    A form that needs more rows misses the first, hardest cuts: it is placed by its ratio to the form with the most
    cuts over those that both have.
    """
    by_name = {
        name: {k: _rms(ladder, cut, found[name]) for k, (cut, found) in enumerate(tested) if name in found}
        for name in AUTO
    }
    usual = {name: found for name, found in by_name.items() if found and 2 * len(found) >= len(tested)}
    if not usual:
        return {}
    reference = max(usual.values(), key=len)
    rows = [len(cut.cheap) for cut, _ in tested]

    def typical(errors: Mapping[int, float], cuts: Iterable[int]) -> float:
        return _typical({k: errors[k] for k in cuts}, rows)

    found = {}
    for name, errors in usual.items():
        both = errors.keys() & reference.keys()
        if both:
            ratio = typical(errors, both) / typical(reference, both)
            found[name] = ratio * typical(reference, reference)
    return found


def _weights(errors: Mapping[str, float]) -> dict[str, float]:
    """Return weights by name, the heaviest first; a law of repeated tokens asks more of a forecast, and leads or is out."""
    best = min(errors, key=errors.__getitem__)
    alike = {
        name: error**-_POWER
        for name, error in errors.items()
        if error <= _ALIKE * errors[best] and (name != "repeated" or name == best)
    }
    kept = {name: weight for name, weight in alike.items() if weight >= _LEAST_WEIGHT * sum(alike.values())}
    ordered = sorted(kept, key=kept.__getitem__, reverse=True)
    return {name: kept[name] / math.fsum(kept.values()) for name in ordered}


def _only(ladder: _Ladder) -> dict[str, float]:
    """Return the first candidate that the rows carry: nothing was backtested."""
    refused: DataError | None = None
    for name in AUTO:
        try:
            fit_member(CANDIDATES[name], ladder.rows, ladder.convention, num_bootstrap=_FEW_REFITS)
        except DataError as error:
            refused = refused or error
        else:
            return {name: 1.0}
    raise refused or DataError("A law needs finished runs, and there is none.")


def _bare(found: Mapping[str, Member], weights: Mapping[str, float]) -> Average:
    """Return the average of a cut's laws, of those that could be fitted there, its intervals as they come."""
    total = math.fsum(weight for name, weight in weights.items() if name in found)
    members = tuple(
        found[name].model_copy(update={"weight": weight / total})
        for name, weight in weights.items()
        if name in found
    )
    return Average(
        for_factor=1.0,
        backtest_factor=None,
        num_cuts=0,
        num_cells=0,
        error_frac=None,
        widening=SINGLE,
        members=members,
    )


def _rms(ladder: _Ladder, cut: Cut, member: Member) -> float:
    return ladder.error(_bare({member.candidate: member}, {member.candidate: 1.0}), cut)


def _typical(errors: Mapping[int, float], rows: Sequence[int]) -> float:
    """Return the geometric mean over cuts by the square of the rows that were fitted: the task to come has all of them.

    Args:
        errors: By cut.
        rows: Of each cut's cheap part.
    """
    weights = {k: rows[k] ** 2 for k in errors}
    logs = (weights[k] * math.log(max(error, _LEAST_ERROR)) for k, error in errors.items())
    return math.exp(math.fsum(logs) / sum(weights.values()))
