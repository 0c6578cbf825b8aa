"""What must hold before a law is fitted, and what its reader must be told."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from kleiber.errors import ConventionError, DataError, UsageError
from kleiber.runs import Convention, Row
from kleiber.scaling.forms import Form, Points
from kleiber.scaling.law import Interval, Intervals
from kleiber.scaling.noise import Noise

__all__ = [
    "REPEATS",
    "check_floor",
    "check_rows",
    "check_spread",
    "is_determined",
    "note_on_unseen",
    "notes_on",
    "undetermined",
]

_ZERO, _MOST = 0.05, 0.5
"""Parts of the lowest loss, which E cannot exceed: what is as good as 0, and what width says nothing."""
_FACTOR, _LEVEL_FACTOR = 3.0, 1000.0
"""How far the ends of a known coefficient's interval may be apart."""
REPEATS = 1.01
"""Tokens over different tokens from which a run counts as repeating them."""


def check_floor(floor: float, rows: Sequence[Row]) -> None:
    """Refuse a floor that is negative or that a row is not above.

    Raises:
        UsageError: It is one of these.
    """
    lowest = min(row.loss for row in rows)
    if not 0 <= floor < lowest:
        raise UsageError(
            f"the floor must be from 0 to below {lowest:.4g}, the lowest loss of the rows.",
            got=floor,
            hint="kleiber fit runs/ladder --form kaplan --floor 1.2",
        )


def check_rows(rows: Sequence[Row], convention: Convention, *, unit: str = "nats/token") -> None:
    """Refuse rows that no law can be fitted to, or that were measured in different ways.

    Raises:
        DataError: There is none, or one holds a number that is not positive and finite.
        ConventionError: Their evaluation sets differ, or they do not tell N by `convention`.
    """
    if not rows:
        raise DataError(
            "A law needs finished runs, and there is none.", hint="kleiber ladder run ladder.yaml"
        )
    for row in rows:
        for name, value in (
            ("loss", row.loss),
            ("num_tokens", row.num_tokens),
            ("num_params", row.num_params.total),
        ):
            if not (math.isfinite(value) and value > 0):
                raise DataError(f"run {row.run!r}: {name} must be a positive number.", got=value)
        if unit == "accuracy" and row.loss > 1:
            raise DataError(
                f"run {row.run!r}: a law of accuracies takes parts of 1.",
                got=row.loss,
                hint="divide per cents by 100",
            )
    _check_evaluation(rows)
    _check_convention(rows, convention)


def _check_evaluation(rows: Sequence[Row]) -> None:
    """Losses on different texts are different quantities."""
    by_set: dict[str | None, str] = {}
    for row in rows:
        by_set.setdefault(row.eval_hash, row.run)
    if len(by_set) > 1:
        found = ", ".join(f"{run!r} on {digest or 'an unnamed set'}" for digest, run in by_set.items())
        raise ConventionError(
            f"One law needs one evaluation set, and these runs were evaluated on {len(by_set)}: {found}.",
            hint="fit the runs of one set: kleiber fit runs/demo/ladder",
        )


def _check_convention(rows: Sequence[Row], convention: Convention) -> None:
    """A language model has an embedding and a head: 0 means that the row was not told of them."""
    for row in rows:
        count = row.num_params
        has_embedding, has_head = count.embedding > 0, count.head > 0 or count.is_tied
        if (convention == "body" and not has_embedding) or (convention == "matmul" and not has_head):
            missing = "embedding" if convention == "body" else "head"
            raise ConventionError(
                f"run {row.run!r} does not say how many of its parameters are {missing}, "
                f"so N cannot be counted as {convention!r}.",
                hint="--count total, or --columns body=NAME   (the column without embeddings)"
                if convention == "body"
                else "--count total",
            )
        if count.by(convention) <= 0:
            raise ConventionError(f"run {row.run!r} has no parameters when N is counted as {convention!r}.")


_SINGULAR = {
    "N": "size",
    "D": "number of tokens",
    "C": "amount of compute",
    "U": "number of different tokens",
    "S": "active part",
}
_PLURAL = {
    "N": "sizes",
    "D": "numbers of tokens",
    "C": "amounts of compute",
    "U": "numbers of different tokens",
    "S": "active parts",
}


def check_spread(form: Form, points: Points) -> None:
    """Refuse rows that cannot tell the form's terms apart.

    Raises:
        DataError: One value only of an input, fewer different points than coefficients and one, or no run that
            repeats data for a form that is about that.
    """
    for name in form.inputs:
        if len(np.unique(points[name])) < 2:
            needed = " and ".join(f"two {_PLURAL[one]}" for one in form.inputs)
            raise DataError(
                f"A law in {' and '.join(form.inputs)} needs runs of at least {needed}; "
                f"these {len(points[name])} rows have one {_SINGULAR[name]}.",
                got=float(points[name][0]),
                hint=_narrower(form, points),
            )
    least = len(form.coefficients) + 1
    num_cells = len(np.unique(np.stack([points[name] for name in form.inputs]), axis=1).T)
    if num_cells < least:
        what = (
            "pairs of size and tokens" if form.inputs == ("N", "D") else f"points in {', '.join(form.inputs)}"
        )
        raise DataError(
            f"A law of {len(form.coefficients)} coefficients needs at least {least} different {what}.",
            got=num_cells,
            hint="a ladder of four sizes and three horizons has 12: kleiber ladder plan ladder.yaml",
        )
    if "U" in form.inputs and not (points["D"] > REPEATS * points["U"]).any():
        raise DataError(
            f"A law of form {form.name!r} is about repeated tokens, and no run repeats any.",
            hint="--form chinchilla",
        )


def _narrower(form: Form, points: Points) -> str | None:
    """Return a form in one variable that the rows could be fitted with."""
    varied = [name for name in ("N", "D") if name in points and len(np.unique(points[name])) > 2]
    return f"--form power_{varied[0]}" if form.inputs == ("N", "D") and len(varied) == 1 else None


def undetermined(form: Form, intervals: Mapping[str, Intervals], lowest_loss: float) -> tuple[str, ...]:
    """Return the coefficients that the rows do not tell, by their 80% intervals.

    A floor must stay away from 0 and be known better than most of what it can be; an exponent or a scale must be
    known to a factor of 3, and a level, which moves by powers of ten when its exponent moves by tenths, to one of 1,000.
    Numbers of either sign stand in an exponent or a logarithm: there a factor of 1,000 is a difference.
    """
    found = []
    for one in form.coefficients:
        low, high = intervals[one.name]["80"]
        is_known = {
            "floor": is_determined((low, high), lowest_loss),
            "level": high <= _LEVEL_FACTOR * low,
            "exponent": high <= _FACTOR * low,
            "scale": high <= _FACTOR * low,
            "free": high - low <= math.log(_LEVEL_FACTOR),
        }[one.kind]
        if not is_known:
            found.append(one.name)
    return tuple(found)


def is_determined(interval_80: Interval, lowest_loss: float) -> bool:
    """Return whether E's 80% interval stays away from 0 and is not most of what E can be.

    Example:
        >>> is_determined((1.77, 1.87), 2.0), is_determined((0.0, 1.2), 2.0), is_determined((0.2, 1.9), 2.0)
        (True, False, False)
    """
    low, high = interval_80
    return low > _ZERO * lowest_loss and high - low < _MOST * lowest_loss


def note_on_unseen(form: Form, rows: Sequence[Row]) -> str | None:
    """Return a sentence where a law in one variable is fitted to rows that differ in the other."""
    differ = {
        "N": len({row.num_params.total for row in rows}) > 1,
        "D": len({row.num_tokens for row in rows}) > 1,
    }
    unseen = [name for name, several in differ.items() if several and name not in form.inputs]
    if "C" in form.inputs or not unseen:
        return None
    return (
        f"The rows differ in {_PLURAL[unseen[0]]}, which a law in {form.inputs[0]} does not see: "
        "it is of their mixture, not of the best that each can reach."
    )


def notes_on(
    points: Points, noise: Noise, intervals: Mapping[str, Intervals], unknown: Sequence[str]
) -> tuple[str, ...]:
    """Return one sentence for each thing that the rows leave open."""
    notes = []
    if "E" in unknown:
        low, high = intervals["E"]["80"]
        notes.append(
            f"The rows do not determine E: its 80% interval is {low:.2f} to {high:.2f}. "
            "Predictions of the loss stand; the coefficients by themselves mean little."
        )
    others = [name for name in unknown if name != "E"]
    if others:
        notes.append(f"The rows do not determine {', '.join(others)}: other values fit them as well.")
    for name, values in points.items():
        if name in ("N", "D") and len(np.unique(values)) == 2:
            notes.append(f"Two {_PLURAL[name]} do not show how fast the loss bends between them.")
    if not noise.num_repeats:
        notes.append("No run was repeated with another seed: seed noise and misfit cannot be told apart.")
    return tuple(notes)
