"""Kaplan's form: a power of a sum of powers, above a floor that is given and not fitted."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from kleiber.scaling.forms.design import Array, Design, Points
from kleiber.scaling.forms.form import Coefficient, Form
from kleiber.scaling.forms.power_sum import LOWEST_TERM
from kleiber.scaling.forms.projection import Feature, project

__all__ = ["KAPLAN", "Kaplan"]

_RATIOS = np.geomspace(0.2, 4.0, 24)
_OUTER = np.geomspace(0.02, 1.0, 24)
_EXPONENT_BOUNDS = (0.01, 3.0)


@dataclass(frozen=True)
class Kaplan(Form):
    """Theta: log of the loss that each limit alone would leave at the design's mean, alpha_N, alpha_D.

    log (L - floor) = s log(exp((a - alpha_N n) / s) + exp((b - s d) / s)) with s = alpha_D: either term is a loss.
    """

    floor: float = 0.0
    """Loss that remains [nats/token]: rows of small models do not tell it, and a wrong one bends what is forecast."""

    @property
    def nonlinear(self) -> tuple[str, ...]:
        """Both exponents; (L - floor)^(1 / alpha_D) is linear in what remains."""
        return ("alpha_N", "alpha_D")

    def fitted_and_jacobian(self, theta_BK: Array, design: Design) -> tuple[Array, Array]:
        """Return log L [B, R] and its derivatives [B, R, 4]."""
        a, b, alpha_N, s = (theta_BK[:, k, None] for k in range(4))
        n, d = design.logs["N"], design.logs["D"]
        of_size, of_tokens = (a - alpha_N * n) / s, b / s - d
        inner = np.logaddexp(of_size, of_tokens)
        share = np.exp(of_size - inner)
        by_s = inner - share * of_size - (1 - share) * b / s
        above = np.exp(s * inner)
        columns = np.stack(np.broadcast_arrays(share, 1 - share, -share * n, by_s), axis=-1)
        return np.log(self.floor + above), (above / (self.floor + above))[..., None] * columns

    def above(self, floor: float) -> Kaplan:
        """Return the form with that floor [nats/token], which its equation says."""
        return replace(self, floor=floor, equation=self.equation.replace("= ", f"= {floor:g} + ", 1))

    def starts(self, design: Design, value_BR: Array, weights_BR: Array, *, num_starts: int = 1) -> Array:
        """Return the best pairs of exponents, each with the non-negative least squares of (L - floor)^(1 / alpha_D).

        They are ranked by the errors of log L: those of the power saturate where alpha_D is small.
        """
        found, errors = [], []
        above_BR = value_BR - self.floor
        size = Feature((0,), np.exp(-np.multiply.outer(_RATIOS, design.logs["N"])))
        tokens = Feature((), np.exp(-design.logs["D"]))
        for s in _OUTER.tolist():
            value = above_BR ** (1 / s)
            terms, place = project(
                (size, tokens), (len(_RATIOS),), value, weights_BR, num_starts=len(_RATIOS)
            )
            logs = s * np.log(np.maximum(terms, 1e-7 * value.min(axis=1)[:, None, None]))
            exponents = np.stack([s * _RATIOS[place], np.full(place.shape, s)], axis=-1)
            theta = np.concatenate([logs, exponents], axis=-1)
            fitted, _ = self.fitted_and_jacobian(theta.reshape(-1, 4), design)
            off = fitted.reshape(*place.shape, -1) - np.log(value_BR)[:, None]
            found.append(theta)
            errors.append((weights_BR[:, None] * off**2).sum(axis=-1))
        order = np.argsort(np.concatenate(errors, axis=1), axis=1)[:, :num_starts]
        return np.take_along_axis(np.concatenate(found, axis=1), order[..., None], axis=1)

    def box(self, value_BR: Array) -> tuple[Array, Array]:
        """Bound each term by what could matter to its losses, and the exponents by what was ever seen."""
        log_value = np.log(value_BR - self.floor)
        lowest, highest = log_value.min(axis=1)[:, None], log_value.max(axis=1)[:, None]
        each = np.ones((len(value_BR), 2))
        return (
            np.hstack([lowest + LOWEST_TERM * each, _EXPONENT_BOUNDS[0] * each]),
            np.hstack([highest + each, _EXPONENT_BOUNDS[1] * each]),
        )

    def coefficients_of(self, theta_BK: Array, design: Design) -> Array:
        """Return N_c, D_c, alpha_N, alpha_D [B, 4]."""
        a, b, alpha_N, alpha_D = theta_BK.T
        N_c, D_c = np.exp(a / alpha_N + design.means["N"]), np.exp(b / alpha_D + design.means["D"])
        return np.stack([N_c, D_c, alpha_N, alpha_D], axis=1)

    def value(self, coefficients_BK: Array, points: Points) -> Array:
        """Return the loss of every coefficient vector at every point [B, P]."""
        N_c, D_c, alpha_N, alpha_D = (coefficients_BK[:, k, None] for k in range(4))
        n, d = np.log(np.atleast_1d(points["N"])), np.log(np.atleast_1d(points["D"]))
        inner = np.logaddexp(alpha_N / alpha_D * (np.log(N_c) - n), np.log(D_c) - d)
        loss: Array = self.floor + np.exp(alpha_D * inner)
        return loss


KAPLAN = Kaplan(
    name="kaplan",
    equation="L(N, D) = ((N_c/N)^(alpha_N/alpha_D) + D_c/D)^alpha_D",
    source="Kaplan et al. 2020, arXiv:2001.08361, equation 1.5, where the floor is 0",
    inputs=("N", "D"),
    coefficients=(
        Coefficient(
            "N_c",
            "level",
            "size at which the loss without a limit of tokens would be 1 nat above the floor [parameters]",
        ),
        Coefficient(
            "D_c",
            "level",
            "tokens at which an unlimited model's loss would be 1 nat above the floor [tokens]",
        ),
        Coefficient("alpha_N", "exponent", "of size"),
        Coefficient("alpha_D", "exponent", "of tokens"),
    ),
)
"""The loss goes to the floor as both grow: 0 unless it is given."""
