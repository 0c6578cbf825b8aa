"""Kaplan's form: a power of a sum of powers, without a floor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kleiber.scaling.forms.design import Array, Design, Points
from kleiber.scaling.forms.form import Coefficient, Form
from kleiber.scaling.forms.power_sum import LOWEST_TERM
from kleiber.scaling.forms.projection import Feature, project

__all__ = ["KAPLAN", "Kaplan"]

_RATIOS = np.geomspace(0.2, 4.0, 24)
_OUTER = np.geomspace(0.02, 1.0, 24)
_BOUNDS = ((0.05, 20.0), (0.005, 3.0))


@dataclass(frozen=True)
class Kaplan(Form):
    """Theta: the logarithms of both terms inside the bracket at the design's mean, alpha_N / alpha_D, alpha_D."""

    @property
    def nonlinear(self) -> tuple[str, ...]:
        """Both exponents; L^(1 / alpha_D) is linear in what remains."""
        return ("alpha_N", "alpha_D")

    def fitted_and_jacobian(self, theta_BK: Array, design: Design) -> tuple[Array, Array]:
        """Return alpha_D times the log-sum-exp of the two terms, and its derivatives."""
        a, b, ratio, outer = (theta_BK[:, k, None] for k in range(4))
        n, d = design.logs["N"], design.logs["D"]
        inner = np.logaddexp(a - ratio * n, b - d)
        share = np.exp(a - ratio * n - inner)
        slopes = (outer * share, outer * (1 - share), -outer * share * n, inner)
        return outer * inner, np.stack(np.broadcast_arrays(*slopes), axis=-1)

    def starts(self, design: Design, value_BR: Array, weights_BR: Array, *, num_starts: int = 1) -> Array:
        """Return the best pairs of exponents; an error of L^(1/s) is s times smaller in L."""
        found, errors = [], []
        size = Feature((0,), np.exp(-np.multiply.outer(_RATIOS, design.logs["N"])))
        tokens = Feature((), np.exp(-design.logs["D"]))
        for outer in _OUTER.tolist():
            value = value_BR ** (1 / outer)
            terms, place = project(
                (size, tokens), (len(_RATIOS),), value, weights_BR, num_starts=min(num_starts, 4)
            )
            ratio = _RATIOS[place]
            power = np.exp(-ratio[..., None] * design.logs["N"])
            fitted = terms[..., :1] * power + terms[..., 1:] * np.exp(-design.logs["D"])
            errors.append((weights_BR[:, None] * (outer * (fitted / value[:, None] - 1)) ** 2).sum(axis=-1))
            floor = 1e-7 * value.min(axis=1)[:, None, None]
            logs = np.log(np.maximum(terms, floor))
            found.append(
                np.concatenate([logs, ratio[..., None], np.full_like(logs[..., :1], outer)], axis=-1)
            )
        order = np.argsort(np.concatenate(errors, axis=1), axis=1)[:, :num_starts]
        return np.take_along_axis(np.concatenate(found, axis=1), order[..., None], axis=1)

    def box(self, value_BR: Array) -> tuple[Array, Array]:
        """Bound the terms by what a small outer exponent makes of any loss."""
        widest = np.abs(np.log(value_BR)).max(axis=1)[:, None] / _BOUNDS[1][0] + 1.0
        ends = np.ones((len(value_BR), 1)) * np.array(_BOUNDS).T[:, None]
        return (
            np.hstack([-widest + LOWEST_TERM, -widest + LOWEST_TERM, ends[0]]),
            np.hstack([widest, widest, ends[1]]),
        )

    def coefficients_of(self, theta_BK: Array, design: Design) -> Array:
        """Return N_c, D_c, alpha_N, alpha_D [B, 4]."""
        a, b, ratio, outer = theta_BK.T
        N_c = np.exp(a / ratio + design.means["N"])
        return np.stack([N_c, np.exp(b + design.means["D"]), ratio * outer, outer], axis=1)

    def value(self, coefficients_BK: Array, points: Points) -> Array:
        """Return the loss of every coefficient vector at every point [B, P]."""
        N_c, D_c, alpha_N, alpha_D = (coefficients_BK[:, k, None] for k in range(4))
        n, d = np.log(np.atleast_1d(points["N"])), np.log(np.atleast_1d(points["D"]))
        inner = np.logaddexp(alpha_N / alpha_D * (np.log(N_c) - n), np.log(D_c) - d)
        loss: Array = np.exp(alpha_D * inner)
        return loss


KAPLAN = Kaplan(
    name="kaplan",
    equation="L(N, D) = ((N_c/N)^(alpha_N/alpha_D) + D_c/D)^alpha_D",
    source="Kaplan et al. 2020, arXiv:2001.08361, equation 1.5",
    inputs=("N", "D"),
    coefficients=(
        Coefficient(
            "N_c", "level", "size at which the loss without a limit of tokens would be 1 nat [parameters]"
        ),
        Coefficient("D_c", "level", "tokens at which an unlimited model's loss would be 1 nat [tokens]"),
        Coefficient("alpha_N", "exponent", "of size"),
        Coefficient("alpha_D", "exponent", "of tokens"),
    ),
)
"""No floor: the loss goes to 0 as both grow."""
