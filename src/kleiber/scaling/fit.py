"""From rows to a law."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kleiber.errors import UsageError, nearest
from kleiber.runs import CONVENTIONS, Convention, Row
from kleiber.scaling.bootstrap import bootstrap, estimate
from kleiber.scaling.checks import (
    check_floor,
    check_rows,
    check_spread,
    note_on_unseen,
    notes_on,
    undetermined,
)
from kleiber.scaling.forms import Array, Design, Form, form_of
from kleiber.scaling.law import Law, LossUnit, intervals_of
from kleiber.scaling.noise import Groups, Noise, measure_noise
from kleiber.scaling.points import points_of
from kleiber.scaling.suspects import note_on_outliers, outliers, without_duplicates

__all__ = ["ESTIMATORS", "fit", "groups_of", "noise_of"]

ESTIMATORS = {
    "projection": "variable projection, then Huber regression by damped Newton steps",
    "approach3": "Hoffmann's approach 3: L-BFGS from a grid of starts, Huber on log-sum-exp, summed",
}
"""Of a law's coefficients."""

_MIN_SAMPLES = 100


def fit(
    rows: Sequence[Row],
    *,
    form: str = "chinchilla",
    estimator: str = "projection",
    chance: float = 0.0,
    floor: float = 0.0,
    convention: Convention = "total",
    num_bootstrap: int = 400,
    seed: int = 0,
) -> Law:
    """Return the law of `rows`.

    Variable projection over a grid of the non-linear coefficients gives the starts, and the summed Huber loss of log L
    is minimized from each. Intervals come from refits: of resampled trunks where there are many, of the law with
    measured noise drawn anew where there are few, see `bootstrap`.

    Args:
        rows: Finished runs, at least one different point more than the form has coefficients.
        form: One of `FORMS`.
        estimator: One of `ESTIMATORS`.
        chance: Accuracy of guessing, for the form `accuracy`.
        floor: Loss that remains [nats/token], below that of every row, for the form `kaplan`.
        convention: Which parameters N counts.
        num_bootstrap: Refits, at least 100.
        seed: Of the bootstrap.

    Raises:
        DataError: Too few rows, or all of one size or of one number of tokens.
        ConventionError: The rows were evaluated on different sets, or do not tell N by `convention`.
        UsageError: An unknown form, estimator or convention, too few refits, or a floor that a row is not above.

    Source:
        Hoffmann et al. 2022, arXiv:2203.15556, approach 3; starts as in arXiv:2603.22339.
    """
    shape = form_of(form, chance=chance, floor=floor)
    _check_choices(shape, estimator, convention, num_bootstrap)
    unit: LossUnit = "accuracy" if shape.response == "identity" else "nats/token"
    check_rows(rows, convention, unit=unit)
    check_floor(floor, rows)
    rows, repeated = without_duplicates(rows)
    points = points_of(rows, shape, convention)
    check_spread(shape, points)
    design = Design.of(points)
    response = shape.response_of(np.array([row.loss for row in rows]))
    theta, objective = _estimate(estimator, shape, design, response)
    fitted = shape.fitted_and_jacobian(theta, design)[0][0]
    far = outliers(response - fitted) if shape.response == "log" else []
    noise = noise_of(shape, rows, response, fitted, far=far, convention=convention)
    refits = bootstrap(
        shape,
        design,
        response,
        theta,
        groups=groups_of(rows, convention),
        noise=noise,
        num_samples=num_bootstrap,
        seed=seed,
    )
    samples = shape.coefficients_of(refits, design)
    intervals = {name: intervals_of(samples[:, k]) for k, name in enumerate(shape.names)}
    unknown = undetermined(shape, intervals, min(row.loss for row in rows))
    notes = (
        repeated,
        note_on_outliers(rows, response - fitted, far),
        note_on_unseen(shape, rows),
        *notes_on(points, noise, intervals, unknown),
    )
    return Law(
        form=form,
        estimator=estimator,
        chance=chance,
        floor=floor,
        convention=convention,
        loss_unit=unit,
        coefficients=dict(zip(shape.names, shape.coefficients_of(theta, design)[0].tolist(), strict=True)),
        intervals=intervals,
        objective=objective,
        num_rows=len(rows),
        noise=noise,
        eval_hash=rows[0].eval_hash,
        e_determined="E" in shape.names and "E" not in unknown,
        undetermined=unknown,
        notes=tuple(note for note in notes if note),
        rows=tuple(rows),
        samples=tuple(tuple(_short(value) for value in sample) for sample in samples.tolist()),
    )


def noise_of(
    form: Form,
    rows: Sequence[Row],
    response: Array,
    fitted: Array,
    *,
    far: Sequence[int],
    convention: Convention,
) -> Noise:
    """Measure what runs scatter by that neither diverged nor hardly began."""
    kept = [k for k in range(len(rows)) if k not in set(far)]
    groups = groups_of([rows[k] for k in kept], convention)
    return measure_noise(response[kept], fitted[kept], groups, num_coefficients=len(form.coefficients))


def _estimate(estimator: str, form: Form, design: Design, response: Array) -> tuple[Array, float]:
    if estimator == "projection":
        return estimate(form, design, response)
    from kleiber.scaling.grid_start import estimate_from_grid  # noqa: PLC0415 - imports scipy

    return estimate_from_grid(form, design, response)


def groups_of(rows: Sequence[Row], convention: Convention) -> Groups:
    """Label the rows; runs on other amounts of different tokens, or other active parts, are no repeats."""
    num_params = np.array([row.num_params.by(convention) for row in rows], dtype=np.float64)
    num_tokens = np.array([row.num_tokens for row in rows], dtype=np.float64)
    others = [(row.unique_tokens or 0.0, row.active_params or 0.0) for row in rows]
    return Groups(num_params, num_tokens, [row.trunk for row in rows], others)


def _short(value: float) -> float:
    """Return eight digits: thousands of samples stand in a file that people open."""
    return float(f"{value:.8g}")


def _check_choices(form: Form, estimator: str, convention: str, num_bootstrap: int) -> None:
    if estimator not in ESTIMATORS:
        raise UsageError(
            f"{estimator!r} gives no law. {nearest(estimator, ESTIMATORS)}",
            hint="--estimators all compares allocations",
        )
    if estimator == "approach3" and form.name != "chinchilla":
        raise UsageError(
            "approach3 is of the form 'chinchilla'.",
            got=form.name,
            hint=f"--form {form.name}   without --estimator",
        )
    if convention not in CONVENTIONS:
        raise UsageError(f"{convention!r} is not a convention. {nearest(convention, CONVENTIONS)}")
    if num_bootstrap < _MIN_SAMPLES:
        raise UsageError(
            f"num_bootstrap must be at least {_MIN_SAMPLES} for a 95% interval.",
            got=num_bootstrap,
            hint="--bootstrap 400",
        )
