"""What must hold before a law is fitted, and what its reader must be told."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from kleiber.errors import ConventionError, DataError
from kleiber.runs import Convention, Row
from kleiber.scaling.form import COEFFICIENTS, Array
from kleiber.scaling.law import Interval
from kleiber.scaling.noise import Noise

__all__ = ["check_rows", "check_spread", "is_determined", "notes_on"]

_MIN_CELLS = len(COEFFICIENTS) + 1
_ZERO, _MOST = 0.05, 0.5
"""Parts of the lowest loss, which E cannot exceed: what is as good as 0, and what width says nothing."""


def check_rows(rows: Sequence[Row], convention: Convention) -> None:
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
                hint="--count total",
            )
        if count.by(convention) <= 0:
            raise ConventionError(f"run {row.run!r} has no parameters when N is counted as {convention!r}.")


def check_spread(num_params: Array, num_tokens: Array) -> None:
    """Refuse rows that cannot tell the law's two terms apart.

    Raises:
        DataError: One size only, one number of tokens only, or fewer than six different pairs of them.
    """
    for name, values in (("size", num_params), ("number of tokens", num_tokens)):
        if len(np.unique(values)) < 2:
            raise DataError(
                f"A law in N and D needs runs of at least two sizes and two numbers of tokens; "
                f"these {len(values)} rows have one {name}.",
                got=float(values[0]),
            )
    num_cells = len(np.unique(np.stack([num_params, num_tokens]), axis=1).T)
    if num_cells < _MIN_CELLS:
        raise DataError(
            f"A law of {len(COEFFICIENTS)} coefficients needs at least {_MIN_CELLS} different pairs of size and tokens.",
            got=num_cells,
            hint="a ladder of four sizes and three horizons has 12: kleiber ladder plan ladder.yaml",
        )


def is_determined(interval_80: Interval, lowest_loss: float) -> bool:
    """Return whether E's 80% interval stays away from 0 and is not most of what E can be.

    Example:
        >>> is_determined((1.77, 1.87), 2.0), is_determined((0.0, 1.2), 2.0), is_determined((0.2, 1.9), 2.0)
        (True, False, False)
    """
    low, high = interval_80
    return low > _ZERO * lowest_loss and high - low < _MOST * lowest_loss


def notes_on(
    num_params: Array, num_tokens: Array, noise: Noise, E: Interval, *, e_determined: bool
) -> tuple[str, ...]:
    """Return one sentence for each thing that the rows leave open."""
    notes = []
    if not e_determined:
        notes.append(
            f"The rows do not determine E: its 80% interval is {E[0]:.2f} to {E[1]:.2f}. "
            "Predictions of the loss stand; the coefficients by themselves mean little."
        )
    for name, values in (("sizes", num_params), ("numbers of tokens", num_tokens)):
        if len(np.unique(values)) == 2:
            notes.append(f"Two {name} do not show how fast the loss bends between them.")
    if not noise.num_repeats:
        notes.append("No run was repeated with another seed: seed noise and misfit cannot be told apart.")
    return tuple(notes)
