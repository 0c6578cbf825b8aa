"""Huber regression of a form, refined from a start to the last digit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kleiber.scaling.forms import Array, Design, Form

__all__ = ["HUBER_DELTA", "huber", "refine"]

HUBER_DELTA = 1e-3
"""Residuals of log L (or of an accuracy) beyond it count linearly (Hoffmann et al. 2022, arXiv:2203.15556, section 3.3)."""

_MAX_DAMPING = 1e9


def huber(residuals: Array, delta: float = HUBER_DELTA) -> Array:
    """Return r²/2 up to `delta` and the tangent line beyond it.

    Example:
        >>> huber(np.array([0.5, 3.0]), delta=1.0).tolist()
        [0.125, 2.5]
    """
    inside = np.minimum(np.abs(residuals), delta)
    return inside * (np.abs(residuals) - inside / 2)


@dataclass(frozen=True)
class _Problems:
    """B regressions on one design, with the box that their parameters stay in.

    `target` and `weights` are [B, R], `low` and `high` [B, K].
    """

    form: Form
    design: Design
    target: Array
    weights: Array
    low: Array
    high: Array

    def objective(self, theta_BK: Array) -> Array:
        """Return the summed Huber loss [B]."""
        predicted, _ = self.form.fitted_and_jacobian(theta_BK, self.design)
        summed: Array = (self.weights * huber(predicted - self.target)).sum(axis=1)
        return summed

    def take(self, index: npt.NDArray[np.intp]) -> _Problems:
        """Return some of them."""
        rest = (self.target, self.weights, self.low, self.high)
        return _Problems(self.form, self.design, *(values[index] for values in rest))


def refine(
    form: Form,
    theta_BK: Array,
    design: Design,
    target_BR: Array,
    weights_BR: Array,
    *,
    max_steps: int = 300,
) -> tuple[Array, Array]:
    """Return the parameters that minimize the summed Huber loss near each start, and that loss.

    A step solves (H + damping · W) step = -gradient. H counts only rows in the quadratic part of the loss, which
    makes Newton's step; W is the matrix of iteratively reweighted least squares, which always descends. Each of
    the B problems has its own damping and ends by itself.

    Args:
        form: Of the law.
        theta_BK: Starts.
        design: The rows.
        target_BR: What the law is fitted to: responses of the form.
        weights_BR: How often each row counts.
        max_steps: Where to stop short of convergence.

    Returns:
        Parameters [B, K] and objectives [B].
    """
    low, high = form.box(form.value_of(target_BR))
    problems = _Problems(form, design, target_BR, weights_BR, low, high)
    theta = np.clip(theta_BK, problems.low, problems.high)
    objective = problems.objective(theta)
    damping, active = np.ones(len(theta)), np.arange(len(theta))
    for _ in range(max_steps):
        step, promised = _step(theta[active], problems, damping[active])
        trial = np.clip(theta[active] + step, problems.low, problems.high)
        value = problems.objective(trial)
        better = value < objective[active]
        theta[active[better]], objective[active[better]] = trial[better], value[better]
        damping[active] = np.clip(damping[active] * np.where(better, 0.2, 6.0), 1e-9, _MAX_DAMPING)
        going = (promised >= 1e-11 * objective[active]) & (damping[active] < _MAX_DAMPING)
        if not going.any():
            break
        active, problems = active[going], problems.take(np.flatnonzero(going))
    return theta, objective


def _step(theta_BK: Array, problems: _Problems, damping_B: Array) -> tuple[Array, Array]:
    """Return the damped Newton step [B, K] and the decrease that its quadratic model promises [B]."""
    predicted, jacobian = problems.form.fitted_and_jacobian(theta_BK, problems.design)
    residual = predicted - problems.target
    pull = problems.weights * np.clip(residual, -HUBER_DELTA, HUBER_DELTA)
    gradient = np.einsum("br,brk->bk", pull, jacobian)
    size = np.abs(residual)
    quadratic, reweighted = size <= HUBER_DELTA, HUBER_DELTA / np.maximum(size, HUBER_DELTA)
    curvature = problems.weights * (quadratic + damping_B[:, None] * reweighted)
    hessian = np.matmul(np.swapaxes(jacobian * curvature[..., None], 1, 2), jacobian)
    stuck = ((theta_BK <= problems.low) & (gradient > 0)) | ((theta_BK >= problems.high) & (gradient < 0))
    gradient = np.where(stuck, 0.0, gradient)
    hessian *= ~stuck[:, :, None] & ~stuck[:, None, :]
    diagonal = np.einsum("bkk->bk", hessian)  # a view: what is added to it is added to the matrix
    diagonal += np.where(stuck, 1.0, 1e-10 * diagonal + 1e-14)
    step = -np.linalg.solve(hessian, gradient[..., None])[..., 0]
    step = np.clip(step, -2.0, 2.0)  # a valley may be flat for miles
    promised: Array = -np.einsum("bk,bk->b", gradient, step)
    return step, promised
