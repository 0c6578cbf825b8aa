"""From rows to a law."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kleiber.errors import UsageError, nearest
from kleiber.runs import CONVENTIONS, Convention, Row
from kleiber.scaling.bootstrap import bootstrap, estimate
from kleiber.scaling.checks import check_rows, check_spread, is_determined, notes_on
from kleiber.scaling.form import COEFFICIENTS, Design, coefficients_of, log_loss_and_jacobian
from kleiber.scaling.law import Law, intervals_of
from kleiber.scaling.noise import Groups, measure_noise

__all__ = ["FORMS", "fit"]

FORMS = ("chinchilla",)
"""Forms of a law."""

_MIN_SAMPLES = 100


def fit(
    rows: Sequence[Row],
    *,
    form: str = "chinchilla",
    convention: Convention = "total",
    num_bootstrap: int = 400,
    seed: int = 0,
) -> Law:
    """Return the law of `rows`: L(N, D) = E + A / N^alpha + B / D^beta.

    Variable projection over a grid of exponents gives the starts, and the summed Huber loss of log L is minimized
    from each. Intervals come from refits: of resampled trunks where there are many, of the law with measured noise drawn anew
    where there are few, see `bootstrap`.

    Args:
        rows: Finished runs, at least six different pairs of size and tokens.
        form: One of `FORMS`.
        convention: Which parameters N counts.
        num_bootstrap: Refits, at least 100.
        seed: Of the bootstrap.

    Raises:
        DataError: Too few rows, or all of one size or of one number of tokens.
        ConventionError: The rows were evaluated on different sets, or do not tell N by `convention`.
        UsageError: An unknown form or convention, or too few refits.

    Source:
        Hoffmann et al. 2022, arXiv:2203.15556, approach 3; starts as in arXiv:2603.22339.
    """
    _check_choices(form, convention, num_bootstrap)
    check_rows(rows, convention)
    num_params = np.array([row.num_params.by(convention) for row in rows], dtype=np.float64)
    num_tokens = np.array([row.num_tokens for row in rows], dtype=np.float64)
    check_spread(num_params, num_tokens)
    log_loss = np.log([row.loss for row in rows])
    design = Design.of(num_params, num_tokens)
    groups = Groups(num_params, num_tokens, [row.trunk for row in rows])
    theta, objective = estimate(design, log_loss)
    noise = measure_noise(log_loss, log_loss_and_jacobian(theta, design)[0][0], groups)
    refits = bootstrap(design, log_loss, theta, groups, noise, num_samples=num_bootstrap, seed=seed)
    samples = coefficients_of(refits, design)
    intervals = {name: intervals_of(samples[:, k]) for k, name in enumerate(COEFFICIENTS)}
    e_determined = is_determined(intervals["E"]["80"], min(row.loss for row in rows))
    return Law(
        convention=convention,
        coefficients=dict(zip(COEFFICIENTS, coefficients_of(theta, design)[0].tolist(), strict=True)),
        intervals=intervals,
        objective=objective,
        num_rows=len(rows),
        noise=noise,
        eval_hash=rows[0].eval_hash,
        e_determined=e_determined,
        notes=notes_on(num_params, num_tokens, noise, intervals["E"]["80"], e_determined=e_determined),
        rows=tuple(rows),
        samples=tuple(tuple(_short(value) for value in sample) for sample in samples.tolist()),
    )


def _short(value: float) -> float:
    """Return eight digits: thousands of samples stand in a file that people open."""
    return float(f"{value:.8g}")


def _check_choices(form: str, convention: str, num_bootstrap: int) -> None:
    for name, value, known in (("form", form, FORMS), ("convention", convention, CONVENTIONS)):
        if value not in known:
            raise UsageError(f"{value!r} is not a {name}. {nearest(value, known)}")
    if num_bootstrap < _MIN_SAMPLES:
        raise UsageError(
            f"num_bootstrap must be at least {_MIN_SAMPLES} for a 95% interval.",
            got=num_bootstrap,
            hint="--bootstrap 400",
        )
