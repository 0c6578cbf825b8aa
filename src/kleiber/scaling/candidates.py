"""What can be asked to foretell dear runs: forms, each with the rows that it is fitted to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kleiber.errors import DataError, UsageError, nearest
from kleiber.runs import Convention, Row
from kleiber.scaling.average import Member
from kleiber.scaling.bootstrap import bootstrap, estimate
from kleiber.scaling.checks import check_spread
from kleiber.scaling.fit import groups_of, noise_of
from kleiber.scaling.forms import FORMS, Array, Design, Form, form_of
from kleiber.scaling.points import flops_of, points_of
from kleiber.scaling.suspects import outliers

__all__ = [
    "AUTO",
    "CANDIDATES",
    "WITH_FLOOR",
    "Candidate",
    "candidate_of",
    "fit_member",
    "frontier",
    "inputs_of",
]


@dataclass(frozen=True)
class Candidate:
    """A form and the rows that it takes."""

    name: str
    form: str
    is_of_frontier: bool = False
    """Fitted only to runs that no run of less or equal compute beats."""
    floor: float = 0.0
    """Loss that remains [nats/token], of the form `kaplan`."""

    def rows(self, rows: Sequence[Row], convention: Convention) -> list[Row]:
        """Return the rows that it is fitted to."""
        return frontier(rows, convention) if self.is_of_frontier else list(rows)


CANDIDATES = {
    **{name: Candidate(name, name) for name in FORMS if name not in ("mixture", "accuracy")},
    "frontier": Candidate("frontier", "power_C", is_of_frontier=True),
}
"""By name: the forms of losses, and a power law in compute through the best runs."""

AUTO = ("chinchilla", "tied", "quadratic", "frontier", "repeated")
"""What `auto` chooses from; `repeated` where runs repeat data, and `WITH_FLOOR` where the floor is known."""

WITH_FLOOR = "kaplan"
"""What is given the loss that remains, and does not fit it."""


def candidate_of(name: str, *, floor: float = 0.0) -> Candidate:
    """Return the candidate of that name.

    Args:
        name: A key of `CANDIDATES`.
        floor: Loss that remains [nats/token]; it has an effect on `WITH_FLOOR` alone.

    Raises:
        UsageError: There is none.
    """
    if name not in CANDIDATES:
        raise UsageError(
            f"{name!r} cannot be backtested. {nearest(name, (*CANDIDATES, 'auto'))}",
            hint="--forms auto,chinchilla",
        )
    return replace(CANDIDATES[name], floor=floor) if name == WITH_FLOOR else CANDIDATES[name]


def frontier(rows: Sequence[Row], convention: Convention) -> list[Row]:
    """Return the runs whose loss no run of less or equal compute reaches, in the order of compute."""
    best, found = float("inf"), []
    for row in sorted(rows, key=lambda row: (flops_of(row, convention), row.loss)):
        if row.loss < best:
            best = row.loss
            found.append(row)
    return found


def inputs_of(rows: Sequence[Row], convention: Convention) -> dict[str, object]:
    """Return rows as the arguments of `points_at` that every candidate may ask for."""
    unique = [row.unique_tokens or row.num_tokens for row in rows]
    return {
        "num_params": np.array([row.num_params.by(convention) for row in rows], dtype=np.float64),
        "num_tokens": np.array([row.num_tokens for row in rows], dtype=np.float64),
        "unique_tokens": np.array(unique, dtype=np.float64),
        "flops": np.array([flops_of(row, convention) for row in rows]),
    }


def fit_member(
    candidate: Candidate,
    rows: Sequence[Row],
    convention: Convention,
    *,
    num_bootstrap: int,
    seed: int = 0,
    estimator: str = "projection",
) -> Member:
    """Return the candidate's law of `rows`, of weight 1, without what only a reader needs.

    Raises:
        DataError: The rows are too few for it, or do not differ in what it is a function of.
    """
    shape, kept = form_of(candidate.form, floor=candidate.floor), candidate.rows(rows, convention)
    points = points_of(kept, shape, convention)
    check_spread(shape, points)
    design = Design.of(points)
    response = np.log([row.loss for row in kept])
    try:
        theta, _ = _estimate(estimator)(shape, design, response)
        fitted = shape.fitted_and_jacobian(theta, design)[0][0]
        far = outliers(response - fitted)
        noise = noise_of(shape, kept, response, fitted, far=far, convention=convention)
        groups = groups_of(kept, convention)
        refits = bootstrap(
            shape, design, response, theta, groups=groups, noise=noise, num_samples=num_bootstrap, seed=seed
        )
    except np.linalg.LinAlgError:
        raise DataError(f"The rows do not tell the coefficients of form {candidate.form!r} apart.") from None
    point = shape.coefficients_of(theta, design)[0].tolist()
    return Member(
        candidate=candidate.name,
        form=candidate.form,
        floor=candidate.floor,
        weight=1.0,
        backtest_error_frac=None,
        coefficients=dict(zip(shape.names, point, strict=True)),
        noise_frac=noise.total_frac,
        samples=tuple(tuple(sample) for sample in shape.coefficients_of(refits, design).tolist()),
    )


def _estimate(estimator: str) -> Callable[[Form, Design, Array], tuple[Array, float]]:
    if estimator == "projection":
        return estimate
    from kleiber.scaling.grid_start import estimate_from_grid  # noqa: PLC0415 - imports scipy

    return estimate_from_grid
