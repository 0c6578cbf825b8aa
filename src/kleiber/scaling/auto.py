"""The form chosen by how well it foretold, not by how well it fits: `--form auto`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kleiber.errors import DataError
from kleiber.runs import Convention, Row
from kleiber.scaling.average import Z_80, Average, Member
from kleiber.scaling.candidates import candidate_of, fit_member
from kleiber.scaling.choice import Choice, Rule, choose
from kleiber.scaling.trials import Trials, asked_of, trials_of

__all__ = ["PUBLIC_RATIO", "PUBLIC_REST", "PUBLIC_UNTRIED", "average_of", "composed"]

PUBLIC_RATIO, PUBLIC_REST = 0.98, 1.2
"""80% quantiles of |error| over deviation at ten times the compute over four public sources, and of what is left when
ladders have been widened by their own trials as well (bench/laws/backtest.py)."""
PUBLIC_UNTRIED = 1.46
"""The same of laws without a trial, whose deviation knows no error that was seen and takes every form for a rival."""


def average_of(
    rows: Sequence[Row],
    *,
    for_factor: float = 10.0,
    floor: float = 0.0,
    convention: Convention = "total",
    num_bootstrap: int = 400,
    seed: int = 0,
    trials: Trials | None = None,
    lead: str | None = None,
) -> Average:
    """Return the law that foretold the rows' own dear part best, with those that did nearly as well beside it.

    The rows are cut by compute at several places, every candidate is fitted to the cheap part and asked about what
    takes at least `for_factor` times more (less where they do not reach so far). The form with the least error leads;
    forms within 2.5 times its reckoned error widen the interval by how far they are from it. Intervals count refits, noise,
    these rivals and the error seen, and how far errors reached beyond that in the ladder's own trials, see `Choice`.

    Args:
        rows: Checked, each once.
        for_factor: Compute of the run to come over that of the dearest row.
        floor: Loss that remains [nats/token], below that of every row, where it is known: Kaplan's form above it is a
            candidate too.
        convention: Which parameters N counts.
        num_bootstrap: Refits of each law.
        seed: Of the bootstrap.
        trials: Those of the rows, where they are at hand.
        lead: The candidate that leads, whatever the trials say; None lets them choose.

    Raises:
        DataError: No candidate can be fitted to the rows, or not the one that was asked for.
    """
    trials = trials or trials_of(rows, for_factor, convention, floor=floor)
    choice = choose(trials, lead=lead)
    if choice is not None:
        wanted = [choice.lead, *choice.rivals]
    else:
        wanted = sorted(asked_of(rows, floor), key=lambda name: name != lead)  # the one asked for first
    fitted: dict[str, Member] = {}
    refused: DataError | None = None
    for name in wanted:
        try:
            fitted[name] = fit_member(
                candidate_of(name, floor=floor), rows, convention, num_bootstrap=num_bootstrap, seed=seed
            )
        except DataError as error:
            refused = refused or error
    if refused and (not fitted or (lead is not None and lead not in fitted)):
        raise refused
    return composed(trials, choice, fitted, for_factor=for_factor)


def composed(
    trials: Trials,
    choice: Choice | None,
    fitted: Mapping[str, Member],
    *,
    for_factor: float,
    rule: Rule | None = None,
) -> Average:
    """Return the average of a choice.

    Args:
        trials: Behind the choice.
        choice: None where there were no trials: the first law leads, and the others, but one of repeated tokens, are its rivals.
        fitted: Laws of all rows by candidate.
        for_factor: Compute of the run to come over that of the dearest row.
        rule: By which it was chosen; None takes the tool's.
    """
    lead = choice.lead if choice and choice.lead in fitted else next(iter(fitted))
    rivals = [
        name
        for name in (choice.rivals if choice else fitted)
        if name in fitted and name not in (lead, "repeated")
    ]
    errors = choice.errors if choice else {}
    reckoned = choice.reckoned if choice else {}
    widening = (
        PUBLIC_REST * choice.widening(PUBLIC_RATIO, len(trials.each), rule or Rule())
        if choice
        else PUBLIC_UNTRIED
    )

    def member(name: str, weight: float) -> Member:
        return fitted[name].model_copy(update={"weight": weight, "backtest_error_frac": errors.get(name)})

    return Average(
        for_factor=for_factor,
        backtest_factor=trials.factor if choice else None,
        num_cuts=len(trials.each) if choice else 0,
        num_cells=trials.num_cells if choice else 0,
        error_frac=reckoned.get(lead),
        trial_ratio=choice.ratio if choice else None,
        widening=widening / Z_80,
        members=(member(lead, 1.0),),
        rivals=tuple(member(name, 0.0) for name in rivals),
    )
