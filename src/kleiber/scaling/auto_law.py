"""A law of `--form auto`: the form that foretold best, and sentences on how sure it is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from kleiber.errors import DataError, UsageError
from kleiber.runs import Convention, Row
from kleiber.scaling.auto import average_of
from kleiber.scaling.average import Z_80, Average
from kleiber.scaling.candidates import candidate_of
from kleiber.scaling.checks import check_floor, check_rows
from kleiber.scaling.choice import choose
from kleiber.scaling.fit import fit
from kleiber.scaling.law import Law
from kleiber.scaling.suspects import without_duplicates
from kleiber.scaling.trials import Trials, trials_of

__all__ = ["fit_auto", "fit_auto_groups"]

_LUCKY = 1.25
"""How far the reckoned error goes beyond the one seen before a note says so."""


def fit_auto(
    rows: Sequence[Row],
    *,
    for_factor: float = 10.0,
    floor: float = 0.0,
    convention: Convention = "total",
    num_bootstrap: int = 400,
    seed: int = 0,
) -> Law:
    """Return the law whose form is chosen by held-out extrapolation, see `average_of`.

    Coefficients, their intervals and the optimum are of that form; intervals of predictions count its rivals too.

    Args:
        rows: Finished runs.
        for_factor: Compute of the run to come over that of the dearest row.
        floor: Loss that remains [nats/token], where it is known: Kaplan's form above it is a candidate too.
        convention: Which parameters N counts.
        num_bootstrap: Refits, at least 100.
        seed: Of the bootstrap.

    Raises:
        DataError: Rows that no form can be fitted to.
        ConventionError: The rows were evaluated on different sets, or do not tell N by `convention`.
        UsageError: A factor that is not above 1, too few refits, or a floor that a row is not above.
    """
    _check_factor(for_factor)
    check_rows(rows, convention)
    check_floor(floor, rows)
    each_once, _ = without_duplicates(rows)
    average = average_of(
        each_once,
        for_factor=for_factor,
        floor=floor,
        convention=convention,
        num_bootstrap=num_bootstrap,
        seed=seed,
    )
    return _law(rows, average, floor=floor, convention=convention, num_bootstrap=num_bootstrap, seed=seed)


def fit_auto_groups(
    groups: Mapping[str, Sequence[Row]],
    *,
    for_factor: float = 10.0,
    floor: float = 0.0,
    convention: Convention = "total",
    num_bootstrap: int = 400,
    seed: int = 0,
) -> dict[str, Law]:
    """Return a law of each group, all of the form that foretold best over the groups together: so they can be compared.

    Args:
        groups: Rows by name.
        for_factor: As `fit_auto` takes it.
        floor: As `fit_auto` takes it.
        convention: Which parameters N counts.
        num_bootstrap: Refits, at least 100.
        seed: Of the bootstrap.

    Raises:
        DataError: Rows that no form, or not this one, can be fitted to; it names the group.
        ConventionError: As of `fit_auto`.
        UsageError: As of `fit_auto`.
    """
    _check_factor(for_factor)
    trials: dict[str, Trials] = {}
    for name, rows in groups.items():
        with _named(name):
            check_rows(rows, convention)
            check_floor(floor, rows)
            trials[name] = trials_of(without_duplicates(rows)[0], for_factor, convention, floor=floor)
    each = tuple(trial for found in trials.values() for trial in found.each)
    together = choose(Trials(None, each))
    laws = {}
    for name, rows in groups.items():
        with _named(name):
            average = average_of(
                without_duplicates(rows)[0],
                for_factor=for_factor,
                floor=floor,
                convention=convention,
                num_bootstrap=num_bootstrap,
                seed=seed,
                trials=trials[name],
                lead=together.lead if together else None,
            )
            laws[name] = _law(
                rows, average, floor=floor, convention=convention, num_bootstrap=num_bootstrap, seed=seed
            )
    return laws


@contextmanager
def _named(group: str) -> Iterator[None]:
    """Say which group an error is about."""
    try:
        yield
    except DataError as error:
        raise DataError(f"Group {group!r}: {error.message}", got=error.got, hint=error.hint) from None


def _check_factor(for_factor: float) -> None:
    if not (math.isfinite(for_factor) and for_factor > 1):
        raise UsageError("for_factor must be above 1.", got=for_factor, hint="--form auto --for-factor 10")


def _law(
    rows: Sequence[Row],
    average: Average,
    *,
    floor: float,
    convention: Convention,
    num_bootstrap: int,
    seed: int,
) -> Law:
    leading = candidate_of(average.members[0].candidate, floor=floor)
    law = fit(
        leading.rows(rows, convention),
        form=leading.form,
        floor=leading.floor,
        convention=convention,
        num_bootstrap=num_bootstrap,
        seed=seed,
    )
    notes = (*_notes(average, floor, len(rows), law.num_rows), *law.notes)
    content = law.model_dump() | {"version": 3, "average": average.model_dump(), "notes": notes}
    return Law.model_validate(content)


def _notes(average: Average, floor: float, num_rows: int, num_leading: int) -> Iterator[str]:
    lead = average.members[0].candidate
    if average.backtest_factor is None or average.error_frac is None or average.trial_ratio is None:
        yield (
            f"Form {lead} was not chosen by backtest: the rows are too few or reach too little in compute to be "
            f"cut. Intervals count how far other forms are from it, times {average.widening * Z_80:.2f}, what public runs needed."
        )
    else:
        seen, reckoned = average.members[0].backtest_error_frac or 0.0, average.error_frac
        luck = (
            f" (reckoned as {reckoned:.2%}, for few forecasts may be right by luck)"
            if reckoned > _LUCKY * seen
            else ""
        )
        yield (
            f"Chosen by backtest at {average.backtest_factor:.3g} times the compute, {average.num_cells} forecasts over {average.num_cuts} "
            f"cut{'s' if average.num_cuts > 1 else ''}: {lead} was off by {seen:.2%}{luck}. Intervals count that, its refits, "
            f"noise and rivals; four of five of these forecasts were off by up to {average.trial_ratio:.2f} times as much."
        )
        if average.backtest_factor < average.for_factor:
            yield (
                f"Asked for {average.for_factor:.3g} times the compute, and the rows could be backtested at "
                f"{average.backtest_factor:.3g}: beyond that nobody has tested this law."
            )
    if average.rivals:
        rivals = ", ".join(
            one.candidate + (f" ({one.backtest_error_frac:.2%})" if one.backtest_error_frac else "")
            for one in average.rivals
        )
        yield f"Rivals that widen the intervals: {rivals}."
    if floor:
        yield f"The floor of {floor:g} was given and not fitted: Kaplan's form above it was a candidate beside the usual ones."
    if lead == "frontier":
        yield f"It is fitted to the {num_leading} of {num_rows} runs that no cheaper run beats, and foretells such runs only."
