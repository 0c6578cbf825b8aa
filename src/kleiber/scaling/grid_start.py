"""Hoffmann's approach 3 as it was published: L-BFGS from a grid of starts, the summed Huber loss of a log-sum-exp."""

from __future__ import annotations

import itertools

import numpy as np

from kleiber.errors import MissingExtraError
from kleiber.scaling.forms import Array, Design, Form
from kleiber.scaling.refine import HUBER_DELTA, huber

__all__ = ["estimate_from_grid"]

_EXPONENTS = (0.0, 0.5, 1.0, 1.5, 2.0)
_FLOORS = (-1.0, -0.5, 0.0, 0.5, 1.0)
_LEVELS = (0.0, 5.0, 10.0, 15.0, 20.0, 25.0)
_NUM_DESCENTS = 48
"""Of the 4,500 starts those with the lowest objective are descended from; the rest lead to the same valleys, later."""


def estimate_from_grid(form: Form, design: Design, response_R: Array) -> tuple[Array, float]:
    """Return the parameters [1, K] of the lowest summed Huber loss that L-BFGS reaches from the grid, and that loss.

    Args:
        form: Chinchilla's.
        design: The rows.
        response_R: Log of the losses.

    Raises:
        MissingExtraError: SciPy is not installed.

    Source:
        Hoffmann et al. 2022, arXiv:2203.15556, section 3.3; the sum, not the mean, as arXiv:2404.10102 found that the mean
        stops L-BFGS early.
    """
    try:
        from scipy.optimize import minimize  # noqa: PLC0415 - an extra, and most of a second to import
    except ImportError:
        raise MissingExtraError.of("scipy", "data", "Approach 3") from None

    def objective(theta: Array) -> tuple[float, Array]:
        fitted, jacobian = form.fitted_and_jacobian(theta[None], design)
        residual = fitted[0] - response_R
        return float(huber(residual).sum()), np.clip(residual, -HUBER_DELTA, HUBER_DELTA) @ jacobian[0]

    best, lowest = np.zeros(0), np.inf
    for start in _starts(form, design, response_R):
        found = minimize(
            objective,
            start,
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 2000, "ftol": 1e-14, "gtol": 1e-10},
        )
        if found.fun < lowest:
            best, lowest = found.x, float(found.fun)
    return best[None], lowest


def _starts(form: Form, design: Design, response_R: Array) -> Array:
    """Return the best starts of the published grid, whose levels are those of uncentred sizes and tokens."""
    grid = np.array(list(itertools.product(_FLOORS, _LEVELS, _LEVELS, _EXPONENTS, _EXPONENTS)))
    grid[:, 1] -= grid[:, 3] * design.means["N"]
    grid[:, 2] -= grid[:, 4] * design.means["D"]
    summed = np.concatenate(
        [
            huber(form.fitted_and_jacobian(part, design)[0] - response_R).sum(axis=1)
            for part in np.array_split(grid, 18)
        ]
    )
    starts: Array = grid[np.argsort(summed)[:_NUM_DESCENTS]]
    return starts
