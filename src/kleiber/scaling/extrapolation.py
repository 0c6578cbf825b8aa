"""`kleiber backtest`: laws of the cheap part of the rows, asked about the dear part."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kleiber.errors import DataError, UsageError
from kleiber.runs import Convention, Row
from kleiber.scaling.auto import average_of
from kleiber.scaling.average import Z_80, Z_95, Average
from kleiber.scaling.candidates import candidate_of, fit_member, inputs_of
from kleiber.scaling.checks import check_floor, check_rows
from kleiber.scaling.cuts import Cut, cuts_at
from kleiber.scaling.fit import ESTIMATORS
from kleiber.scaling.forecast import naive_forecasts
from kleiber.scaling.forms import Array
from kleiber.scaling.points import flops_of
from kleiber.scaling.suspects import without_duplicates

__all__ = ["Foretold", "backtest_rows"]


@dataclass(frozen=True)
class Foretold:
    """One dear row, and what a law that did not see it said. Losses are logarithms."""

    method: str
    """Candidate, and estimator where it is not the default."""
    factor: float
    """That was asked."""
    cut_flops: float
    """Of the dearest row that was fitted."""
    flops: float
    run: str
    log_measured: float
    log_foretold: float
    half_80: float
    """Half the width of the interval."""
    half_95: float
    naive_error: float
    """|log error| of the better of the two naive forecasts at this cut."""

    @property
    def error(self) -> float:
        """|log foretold over measured|."""
        return abs(self.log_foretold - self.log_measured)


def backtest_rows(
    rows: Sequence[Row],
    *,
    forms: Sequence[str] = ("auto", "chinchilla", "tied", "quadratic", "frontier"),
    estimators: Sequence[str] = ("projection",),
    factors: Sequence[float] = (10.0, 30.0, 100.0),
    floor: float = 0.0,
    convention: Convention = "total",
    most_cuts: int = 4,
    num_bootstrap: int = 100,
    seed: int = 0,
    on_skip: Callable[[str], None] = lambda _: None,
) -> tuple[Foretold, ...]:
    """Return every forecast of a dear row by a law of a cheap part.

    Args:
        rows: Finished runs.
        forms: Names of `CANDIDATES`, or `auto`, which chooses from the cheap part alone.
        estimators: Of `ESTIMATORS`; those that a form has not are passed over.
        factors: Compute of a dear row over that of the dearest that is fitted, at least.
        floor: Loss that remains [nats/token], below that of every row, where it is known: of the form `kaplan`, and so of
            a candidate of `auto`.
        convention: Which parameters N counts.
        most_cuts: For each factor.
        num_bootstrap: Refits of each law.
        seed: Of the bootstrap.
        on_skip: Is told what could not be fitted or cut.

    Raises:
        DataError: A row is bad, or the rows do not reach far enough for any of the factors.
        UsageError: An unknown form or estimator, a factor that is not above 1, or a floor that a row is not above.
    """
    _check_asked(forms, estimators, factors)
    check_rows(rows, convention)
    check_floor(floor, rows)
    kept, _ = without_duplicates(rows)
    flops = np.array([flops_of(row, convention) for row in kept])
    found: list[Foretold] = []
    for factor in factors:
        cuts = cuts_at(flops, factor, most=most_cuts)
        if not cuts:
            on_skip(f"No cut leaves 15 rows to fit and one of {factor:g} times the compute to foretell.")
        for cut in cuts:
            cheap, dear = [kept[k] for k in cut.cheap], [kept[k] for k in cut.dear]
            naive = _naive_errors(cheap, dear, convention)
            for form, estimator in _methods(forms, estimators):
                name = form if estimator == "projection" else f"{form} by {estimator}"
                try:
                    average = _law(
                        form,
                        estimator,
                        cheap,
                        factor=factor,
                        floor=floor,
                        convention=convention,
                        num_bootstrap=num_bootstrap,
                        seed=seed,
                    )
                except DataError as error:
                    on_skip(f"{name} on {len(cheap)} rows: {error.message}")
                    continue
                found += _cells(
                    name, average, cut, dear, flops=flops[cut.dear], naive=naive, convention=convention
                )
    if not found:
        raise DataError(
            f"The rows reach over a factor of {flops.max() / flops.min():.3g} in compute: too little, or too few, to cut.",
            got=f"{len(kept)} rows",
            hint="kleiber backtest ROWS --factors 3",
        )
    return tuple(found)


def _check_asked(forms: Sequence[str], estimators: Sequence[str], factors: Sequence[float]) -> None:
    for form in forms:
        if form != "auto":
            candidate_of(form)
    for estimator in estimators:
        if estimator not in ESTIMATORS:
            raise UsageError(
                f"{estimator!r} gives no law to backtest.",
                got=estimator,
                hint="--estimators projection,approach3",
            )
    for factor in factors:
        if not (math.isfinite(factor) and factor > 1):
            raise UsageError("A factor in compute must be above 1.", got=factor, hint="--factors 10,30")


def _methods(forms: Sequence[str], estimators: Sequence[str]) -> list[tuple[str, str]]:
    return [
        (form, estimator)
        for form in forms
        for estimator in estimators
        if estimator == "projection" or form == "chinchilla"
    ]


def _law(
    form: str,
    estimator: str,
    cheap: Sequence[Row],
    *,
    factor: float,
    floor: float,
    convention: Convention,
    num_bootstrap: int,
    seed: int,
) -> Average:
    """Return the law of a cheap part; a single form is an average of one, whose intervals are the bootstrap's."""
    if form == "auto":
        return average_of(
            cheap,
            for_factor=factor,
            floor=floor,
            convention=convention,
            num_bootstrap=num_bootstrap,
            seed=seed,
        )
    member = fit_member(
        candidate_of(form, floor=floor),
        cheap,
        convention,
        num_bootstrap=num_bootstrap,
        seed=seed,
        estimator=estimator,
    )
    return Average(
        for_factor=factor,
        backtest_factor=None,
        num_cuts=0,
        num_cells=0,
        error_frac=None,
        widening=1.0,
        members=(member,),
    )


def _cells(
    name: str,
    average: Average,
    cut: Cut,
    dear: Sequence[Row],
    *,
    flops: Array,
    naive: Sequence[float],
    convention: Convention,
) -> list[Foretold]:
    mean, deviation = average.log_losses(inputs_of(dear, convention))
    return [
        Foretold(
            method=name,
            factor=cut.factor,
            cut_flops=cut.flops,
            flops=float(flops[k]),
            run=row.run,
            log_measured=math.log(row.loss),
            log_foretold=float(mean[k]),
            half_80=Z_80 * float(deviation[k]),
            half_95=Z_95 * float(deviation[k]),
            naive_error=naive[k],
        )
        for k, row in enumerate(dear)
    ]


def _naive_errors(cheap: Sequence[Row], dear: Sequence[Row], convention: Convention) -> list[float]:
    """Return |log error| of each row by whichever naive forecast did better over all of them."""
    said = [
        naive_forecasts(tuple(cheap), convention, float(row.num_params.by(convention)), row.num_tokens)
        for row in dear
    ]
    errors = [
        [abs(math.log(value / row.loss)) for value, row in zip(values, dear, strict=True)]
        for values in ([one.last_rung_loss for one in said], [one.log_log_line_loss for one in said])
    ]
    return min(errors, key=math.fsum)
