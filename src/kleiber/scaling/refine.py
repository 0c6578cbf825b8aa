"""Huber regression of the log-loss, refined from a start to the last digit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kleiber.scaling.form import Array, Design, log_loss_and_jacobian

__all__ = ["HUBER_DELTA", "huber", "refine"]

HUBER_DELTA = 1e-3
"""Residuals of log L beyond it count linearly (Hoffmann et al. 2022, arXiv:2203.15556, section 3.3)."""

_EXPONENT_BOUNDS = (0.01, 3.0)
_LOWEST_TERM = -16.0
"""A term e^-16 of the loss is 0 for every purpose, and its logarithm is finite."""
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

    `log_loss` and `weights` are [B, R], `low` and `high` [B, K].
    """

    design: Design
    log_loss: Array
    weights: Array
    low: Array
    high: Array

    def objective(self, theta_BK: Array) -> Array:
        """Return the summed Huber loss [B]."""
        predicted, _ = log_loss_and_jacobian(theta_BK, self.design)
        summed: Array = (self.weights * huber(predicted - self.log_loss)).sum(axis=1)
        return summed

    def take(self, index: npt.NDArray[np.intp]) -> _Problems:
        """Return some of them."""
        rest = (self.log_loss, self.weights, self.low, self.high)
        return _Problems(self.design, *(values[index] for values in rest))


def refine(
    theta_BK: Array, design: Design, log_loss_BR: Array, weights_BR: Array, *, max_steps: int = 300
) -> tuple[Array, Array]:
    """Return the parameters that minimize the summed Huber loss near each start, and that loss.

    A step solves (H + damping · W) step = -gradient. H counts only rows in the quadratic part of the loss, which
    makes Newton's step; W is the matrix of iteratively reweighted least squares, which always descends. Each of
    the B problems has its own damping and ends by itself.

    Args:
        theta_BK: Starts, as `log_loss_and_jacobian` takes them.
        design: The rows.
        log_loss_BR: What the law is fitted to.
        weights_BR: How often each row counts.
        max_steps: Where to stop short of convergence.

    Returns:
        Parameters [B, K] and objectives [B].
    """
    problems = _boxed(design, log_loss_BR, weights_BR)
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


def _boxed(design: Design, log_loss_BR: Array, weights_BR: Array) -> _Problems:
    """Bound each term by what could matter to its losses, and the exponents by what was ever seen."""
    lowest, highest = log_loss_BR.min(axis=1)[:, None], log_loss_BR.max(axis=1)[:, None]
    low = np.hstack([lowest + np.full(3, _LOWEST_TERM), np.full((len(lowest), 2), _EXPONENT_BOUNDS[0])])
    high = np.hstack([highest + np.array([0.0, 1.0, 1.0]), np.full((len(lowest), 2), _EXPONENT_BOUNDS[1])])
    return _Problems(design, log_loss_BR, weights_BR, low, high)


def _step(theta_BK: Array, problems: _Problems, damping_B: Array) -> tuple[Array, Array]:
    """Return the damped Newton step [B, K] and the decrease that its quadratic model promises [B]."""
    predicted, jacobian = log_loss_and_jacobian(theta_BK, problems.design)
    residual = predicted - problems.log_loss
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
