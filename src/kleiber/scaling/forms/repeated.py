"""The data-constrained form: tokens that are repeated, and parameters in excess of the data, count for less and less."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from kleiber.scaling.forms.design import Array, Design, Points
from kleiber.scaling.forms.form import Coefficient, Form
from kleiber.scaling.forms.power_sum import PowerSum

__all__ = ["Repeated", "effective"]

_SCALES = np.geomspace(1.0, 2000.0, 9)
"""Grid of R*_D and R*_N."""
_NUM_ROUNDS = 3
_FAR_OFF = 0.01
"""Squared errors of log loss beyond it count no more: this form cannot follow runs that overfit."""
_LOG_SCALE_BOUNDS = (-3.0, 8.0)
_LOG_SIZE_BOUNDS = (-10.0, 60.0)
"""Of log U_N: an optimum out there is no size, and stays a number."""


def effective(unique: Array, total: Array, scale: Array) -> tuple[Array, Array, Array]:
    """Return x' = U + U R* (1 - exp(-R / R*)) with R = x / U - 1, and its derivatives by log R* and by U.

    Example:
        >>> ten, forty = np.array(10.0), np.array(40.0)
        >>> float(effective(ten, ten, np.array(15.0))[0]), round(float(effective(ten, forty, np.array(1e9))[0]), 3)
        (10.0, 40.0)
    """
    repeats = np.maximum(total / unique - 1, 0.0)
    decay = np.exp(-repeats / scale)
    gained = scale * -np.expm1(-repeats / scale)
    by_log_scale = unique * (gained - repeats * decay)
    by_unique = 1 + gained - (repeats + 1) * decay
    return unique * (1 + gained), by_log_scale, np.where(repeats > 0, by_unique, 1.0)


@dataclass(frozen=True)
class Repeated(Form):
    """Theta: that of the Chinchilla form, then the logarithms of R*_D and R*_N."""

    single: PowerSum | None = None
    """The form of runs that repeat nothing."""

    @property
    def nonlinear(self) -> tuple[str, ...]:
        """Exponents and scales; U_N depends on the levels too, so a start fixes it first."""
        return ("alpha", "beta", "R_D", "R_N")

    @property
    def _base(self) -> PowerSum:
        assert self.single is not None  # noqa: S101 - dataclass inheritance wants a default
        return self.single

    def _optimal_size(self, theta_BK: Array, log_unique: Array, design_means: tuple[float, float]) -> Array:
        """Return log of the N for which U tokens are compute-optimal [B, R], uncentred.

        alpha A / N^alpha = beta B / D^beta, with levels at the design's mean.
        """
        mean_n, mean_d = design_means
        _, a, b, alpha, beta = (theta_BK[:, k, None] for k in range(5))
        centred = log_unique - mean_d
        log_n: Array = (np.log(alpha) + a - np.log(beta) - b + beta * centred) / alpha + mean_n
        return np.clip(log_n, *_LOG_SIZE_BOUNDS)

    def fitted_and_jacobian(self, theta_BK: Array, design: Design) -> tuple[Array, Array]:
        """Return log L [B, R] and its derivatives [B, R, 7], through N', D' and U_N."""
        e, a, b, alpha, beta = (theta_BK[:, k, None] for k in range(5))
        R_D, R_N = np.exp(theta_BK[:, 5, None]), np.exp(theta_BK[:, 6, None])
        means = (design.means["N"], design.means["D"])
        log_N, log_D = design.logs["N"] + means[0], design.logs["D"] + means[1]
        log_U = design.logs["U"] + design.means["U"]
        # In units of the mean: the numbers stay small.
        N, D, U = np.exp(log_N - means[0]), np.exp(log_D - means[1]), np.exp(log_U - means[1])
        best = self._optimal_size(theta_BK, log_U, means) - means[0]
        is_excess = np.broadcast_to(best < np.log(N), (len(theta_BK), len(N)))
        U_N = np.where(is_excess, np.exp(np.minimum(best, np.log(N))), N)
        N_eff, N_by_scale, N_by_U = effective(U_N, np.broadcast_to(N, U_N.shape), R_N)
        D_eff, D_by_scale, _ = effective(np.broadcast_to(U, U_N.shape), np.broadcast_to(D, U_N.shape), R_D)
        terms = np.stack(np.broadcast_arrays(e, a - alpha * np.log(N_eff), b - beta * np.log(D_eff)), axis=-1)
        top = terms.max(axis=-1)
        shares = np.exp(terms - top[..., None])
        total = shares.sum(axis=-1)
        shares /= total[..., None]
        by_log_N, by_log_D = -alpha * shares[..., 1], -beta * shares[..., 2]
        # d log N' / d log U_N, where U_N is the optimal size; it moves with a, b, alpha and beta.
        pull = np.where(is_excess, by_log_N * N_by_U * U_N / N_eff, 0.0)
        centred_U = log_U - means[1]
        jacobian = np.concatenate([shares, np.zeros((*shares.shape[:2], 4))], axis=-1)
        jacobian[..., 1] += pull / alpha
        jacobian[..., 2] -= pull / alpha
        jacobian[..., 3] = -np.log(N_eff) * shares[..., 1] + pull * (1 / alpha - best) / alpha
        jacobian[..., 4] = -np.log(D_eff) * shares[..., 2] + pull * (centred_U - 1 / beta) / alpha
        jacobian[..., 5] = by_log_D * D_by_scale / D_eff
        jacobian[..., 6] = by_log_N * N_by_scale / N_eff
        return top + np.log(total), jacobian

    def starts(self, design: Design, value_BR: Array, weights_BR: Array, *, num_starts: int = 1) -> Array:
        """Return the best of a grid of both scales, each with the Chinchilla form of the effective N and D.

        U_N depends on what is being fitted: it starts at that of the rows as they are and is taken from the last fit twice.
        """
        found = []
        for value, weights in zip(value_BR, weights_BR, strict=True):
            grid = itertools.product(_SCALES.tolist(), _SCALES.tolist())
            each = np.stack([self._start(design, value, weights, R_D, R_N) for R_D, R_N in grid])
            fitted, _ = self.fitted_and_jacobian(each, design)
            errors = (weights * np.minimum((fitted - np.log(value)) ** 2, _FAR_OFF)).sum(axis=1)
            found.append(each[np.argsort(errors)[:num_starts]])
        return np.stack(found)

    def _start(self, design: Design, value_R: Array, weights_R: Array, R_D: float, R_N: float) -> Array:
        """Return the parameters [7] at two scales."""
        means = (design.means["N"], design.means["D"])
        log_N, log_D = design.logs["N"] + means[0], design.logs["D"] + means[1]
        log_U = design.logs["U"] + design.means["U"]
        D = effective(np.exp(log_U), np.exp(log_D), np.array(R_D))[0]
        single = self._base.starts(design, value_R[None], weights_R[None])[:, 0]
        for _ in range(_NUM_ROUNDS):
            U_N = np.exp(np.minimum(self._optimal_size(single, log_U, means)[0], log_N))
            N = effective(U_N, np.exp(log_N), np.array(R_N))[0]
            shifted = Design({"N": np.log(N) - means[0], "D": np.log(D) - means[1]}, design.means)
            single = self._base.starts(shifted, value_R[None], weights_R[None])[:, 0]
        return np.concatenate([single[0], np.log([R_D, R_N])])

    def box(self, value_BR: Array) -> tuple[Array, Array]:
        """Return the box of the Chinchilla form, with scales from 0.05 to 3,000 repeats."""
        low, high = self._base.box(value_BR)
        ends = np.ones((len(low), 2))
        return np.hstack([low, _LOG_SCALE_BOUNDS[0] * ends]), np.hstack([high, _LOG_SCALE_BOUNDS[1] * ends])

    def coefficients_of(self, theta_BK: Array, design: Design) -> Array:
        """Return E, A, B, alpha, beta, R_D, R_N [B, 7]."""
        single = self._base.coefficients_of(theta_BK[:, :5], design)
        return np.concatenate([single, np.exp(theta_BK[:, 5:])], axis=1)

    def value(self, coefficients_BK: Array, points: Points) -> Array:
        """Return the loss of every coefficient vector at every point [B, P]."""
        E, A, B, alpha, beta, R_D, R_N = (coefficients_BK[:, k, None] for k in range(7))
        N, D, U = (np.atleast_1d(points[name]) for name in ("N", "D", "U"))
        log_best = (np.log(alpha * A / (beta * B)) + beta * np.log(U)) / alpha
        U_N = np.exp(np.minimum(np.clip(log_best, *_LOG_SIZE_BOUNDS), np.log(N)))
        N_eff = effective(U_N, np.broadcast_to(N, U_N.shape), R_N)[0]
        D_eff = effective(np.broadcast_to(U, U_N.shape), np.broadcast_to(D, U_N.shape), R_D)[0]
        loss: Array = E + A * N_eff**-alpha + B * D_eff**-beta
        return loss


def repeated_coefficients(single: PowerSum) -> tuple[Coefficient, ...]:
    """Return those of the Chinchilla form and the two scales."""
    return (
        *single.coefficients,
        Coefficient("R_D", "scale", "repeats after which repeated tokens are worth 1 - 1/e less [epochs]"),
        Coefficient("R_N", "scale", "the same of parameters beyond the optimum of the unique tokens"),
    )
