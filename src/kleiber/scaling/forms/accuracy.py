"""Accuracies: a sigmoid of a power law, from chance up to 1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kleiber.scaling.forms.design import Array, Design, Points
from kleiber.scaling.forms.form import Coefficient, Form
from kleiber.scaling.forms.power_sum import PowerSum

__all__ = ["Accuracy"]

_EDGE = 1e-3
"""Accuracies this near to chance or to 1 have no logit that a start could use."""
_SHIFT = 30.0


@dataclass(frozen=True)
class Accuracy(Form):
    """Theta: h, the logarithms of a and b at the design's mean, alpha, beta; residuals are of the accuracy itself."""

    single: PowerSum | None = None
    """The power law inside the sigmoid."""
    chance: float = 0.0
    """What guessing reaches: 1 / number of answers."""

    @property
    def nonlinear(self) -> tuple[str, ...]:
        """Both exponents; the logit is linear in what remains."""
        return ("alpha", "beta")

    def fitted_and_jacobian(self, theta_BK: Array, design: Design) -> tuple[Array, Array]:
        """Return the accuracy [B, R] and its derivatives [B, R, 5]."""
        h, a, b, alpha, beta = (theta_BK[:, k, None] for k in range(5))
        n, d = design.logs["N"], design.logs["D"]
        of_size, of_tokens = np.exp(a - alpha * n), np.exp(b - beta * d)
        share = 0.5 * (1 + np.tanh((h - of_size - of_tokens) / 2))
        slope = (1 - self.chance) * share * (1 - share)
        columns = (slope, -slope * of_size, -slope * of_tokens, slope * of_size * n, slope * of_tokens * d)
        return self.chance + (1 - self.chance) * share, np.stack(np.broadcast_arrays(*columns), axis=-1)

    def starts(self, design: Design, value_BR: Array, weights_BR: Array, *, num_starts: int = 1) -> Array:
        """Return the best exponents by least squares of the logit, each row weighted by the sigmoid's slope."""
        assert self.single is not None  # noqa: S101 - dataclass inheritance wants a default
        share = np.clip((value_BR - self.chance) / (1 - self.chance), _EDGE, 1 - _EDGE)
        shifted = _SHIFT - np.log(
            share / (1 - share)
        )  # positive, as a loss is: (shift - h) + a/N^alpha + b/D^beta
        weights = weights_BR * (share * (1 - share) * shifted) ** 2
        theta = self.single.starts(design, shifted, weights, num_starts=num_starts)
        return np.concatenate([_SHIFT - np.exp(theta[..., :1]), theta[..., 1:]], axis=-1)

    def box(self, value_BR: Array) -> tuple[Array, Array]:
        """Bound the logit by what no accuracy could tell from 0 or 1."""
        low = np.array([-_SHIFT, -16.0, -16.0, 0.01, 0.01])
        high = np.array([_SHIFT, 5.0, 5.0, 3.0, 3.0])
        each = np.ones((len(value_BR), 1))
        return each * low, each * high

    def coefficients_of(self, theta_BK: Array, design: Design) -> Array:
        """Return h, a, b, alpha, beta of uncentred sizes and tokens [B, 5]."""
        h, a, b, alpha, beta = theta_BK.T
        levels = np.exp(a + alpha * design.means["N"]), np.exp(b + beta * design.means["D"])
        return np.stack([h, *levels, alpha, beta], axis=1)

    def value(self, coefficients_BK: Array, points: Points) -> Array:
        """Return the accuracy of every coefficient vector at every point [B, P]."""
        h, a, b, alpha, beta = (coefficients_BK[:, k, None] for k in range(5))
        n, d = np.log(np.atleast_1d(points["N"])), np.log(np.atleast_1d(points["D"]))
        logit = h - a * np.exp(-alpha * n) - b * np.exp(-beta * d)
        accuracy: Array = self.chance + (1 - self.chance) * 0.5 * (1 + np.tanh(logit / 2))
        return accuracy


def accuracy_coefficients() -> tuple[Coefficient, ...]:
    """Return the five of the equation."""
    return (
        Coefficient("h", "free", "logit that is reached without a limit of size and tokens"),
        Coefficient("a", "level", "how much size takes from it [N^alpha]"),
        Coefficient("b", "level", "how much tokens take from it [D^beta]"),
        Coefficient("alpha", "exponent", "of size"),
        Coefficient("beta", "exponent", "of tokens"),
    )
