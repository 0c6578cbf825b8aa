"""Farseer's form: the floor, the level and the exponent of the tokens each change with size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kleiber.scaling.forms.design import Array, Design, Points
from kleiber.scaling.forms.form import Coefficient, Form
from kleiber.scaling.forms.power_sum import PowerSum

__all__ = ["Farseer"]

_POWERS = (-0.5, -0.2, 0.1, 0.3)
"""Grid of each power; 0 would be a logarithm."""
_POWER_BOUND = 1.0
_LEAST_POWER = 1e-4
_OTHERS = (-0.2, 0.2)


def _bent(power: Array, n: Array) -> tuple[Array, Array]:
    """Return (e^(pn) - 1) / p and its derivative by p: n where p is 0, so that signs may change smoothly."""
    p = np.where(np.abs(power) < _LEAST_POWER, _LEAST_POWER, power)
    grown = np.exp(p * n)
    return (grown - 1) / p, (p * n * grown - grown + 1) / p**2


@dataclass(frozen=True)
class Farseer(Form):
    """Theta: for each of the functions g_1, g_2, g_3 its value b and slope a at the mean size, then the three powers.

    g(n) = b + a (e^(pn) - 1) / p equals a' N^p + b' of the equation; written so, it stays well-conditioned near p = 0.
    """

    single: PowerSum | None = None
    """The form that a start is bent from."""

    @property
    def nonlinear(self) -> tuple[str, ...]:
        """The three powers; inside exponentials nothing is linear, so starts come from the Chinchilla form."""
        return ("alpha", "beta", "gamma")

    @property
    def num_refit_starts(self) -> int:
        """All: of refits from the point estimate alone a third ended in a higher valley, and intervals came out too narrow."""
        return len(_POWERS) * len(_OTHERS)

    def fitted_and_jacobian(self, theta_BK: Array, design: Design) -> tuple[Array, Array]:
        """Return log L [B, R] and its derivatives [B, R, 9]."""
        n = design.logs["N"]
        d = design.logs["D"] + design.means["D"]
        values, by_slope, by_power = [], [], []
        for k in range(3):
            b, a, p = theta_BK[:, k, None], theta_BK[:, 3 + k, None], theta_BK[:, 6 + k, None]
            bent, bent_by_p = _bent(p, n)
            values.append(b + a * bent)
            by_slope.append(bent)
            by_power.append(a * bent_by_p)
        exponent = np.exp(np.clip(values[0], -20.0, 3.0))
        floor, level = values[2], values[1] - exponent * d
        fitted = np.logaddexp(floor, level)
        share = np.exp(level - fitted)  # of the term that falls with tokens
        by_value = (-share * exponent * d, share, 1 - share)
        columns = (
            *by_value,
            *(v * s for v, s in zip(by_value, by_slope, strict=True)),
            *(v * p for v, p in zip(by_value, by_power, strict=True)),
        )
        return fitted, np.stack(np.broadcast_arrays(*columns), axis=-1)

    def starts(self, design: Design, value_BR: Array, weights_BR: Array, *, num_starts: int = 1) -> Array:
        """Return the Chinchilla form bent into this one, for every power of the floor and two of the others."""
        assert self.single is not None  # noqa: S101 - dataclass inheritance wants a default
        single = self.single.starts(design, value_BR, weights_BR)[:, 0]
        e, a, b, alpha, beta = (single[:, k, None] for k in range(5))
        n = design.logs["N"]
        log_floor = np.logaddexp(e, a - alpha * n)
        found = []
        for gamma in _POWERS:
            x = np.stack([np.ones_like(n), _bent(np.array(gamma), n)[0]], axis=1)
            solution = log_floor @ np.linalg.pinv(x).T
            for other in _OTHERS:
                level = b + beta * design.means["D"]
                columns = [np.log(beta), level, solution[:, :1], 0 * b, 0 * b, solution[:, 1:]]
                powers = np.broadcast_to([other, other, gamma], (len(b), 3))
                found.append(np.concatenate([*columns, powers], axis=1))
        return np.stack(found, axis=1)[:, : max(num_starts, 1)]

    def box(self, value_BR: Array) -> tuple[Array, Array]:
        """Bound the powers, and the others by far more than any row could tell."""
        ends = np.array([5.0, 200.0, 50.0, 10.0, 100.0, 10.0, *(_POWER_BOUND,) * 3])
        each = np.ones((len(value_BR), 1))
        return -each * ends, each * ends

    def coefficients_of(self, theta_BK: Array, design: Design) -> Array:
        """Return a_1, b_1, a_2, b_2, a_3, b_3, alpha, beta, gamma of N itself [B, 9]."""
        found = []
        for k in range(3):
            b, a, p = theta_BK[:, k], theta_BK[:, 3 + k], theta_BK[:, 6 + k]
            p = np.where(np.abs(p) < _LEAST_POWER, _LEAST_POWER, p)
            found += [a / p * np.exp(-p * design.means["N"]), b - a / p]
        powers = theta_BK[:, 6:]
        powers = np.where(np.abs(powers) < _LEAST_POWER, _LEAST_POWER, powers)
        return np.concatenate([np.stack(found, axis=1), powers], axis=1)

    def value(self, coefficients_BK: Array, points: Points) -> Array:
        """Return the loss of every coefficient vector at every point [B, P]."""
        a_1, b_1, a_2, b_2, a_3, b_3, alpha, beta, gamma = (coefficients_BK[:, k, None] for k in range(9))
        N, d = np.atleast_1d(points["N"]), np.log(np.atleast_1d(points["D"]))
        exponent = np.exp(np.clip(a_1 * N**alpha + b_1, -20.0, 3.0))
        level = a_2 * N**beta + b_2 - exponent * d
        loss: Array = np.exp(np.clip(np.logaddexp(a_3 * N**gamma + b_3, level), -50.0, 50.0))
        return loss


def farseer_coefficients() -> tuple[Coefficient, ...]:
    """Return the nine of the equation."""
    names = ("a_1", "b_1", "a_2", "b_2", "a_3", "b_3")
    return (
        *(Coefficient(name, "free", "inside an exponential; by itself it means little") for name in names),
        Coefficient("alpha", "free", "power of size in the exponent of the tokens"),
        Coefficient("beta", "free", "power of size in the level of the tokens' term"),
        Coefficient("gamma", "free", "power of size in the floor"),
    )
