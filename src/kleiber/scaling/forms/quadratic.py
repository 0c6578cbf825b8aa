"""A local log-quadratic: no theory, only a smooth surface; good near its rows, and never far."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kleiber.scaling.forms.design import Array, Design, Points
from kleiber.scaling.forms.form import Coefficient, Form

__all__ = ["QUADRATIC", "Quadratic"]

_WIDEST = 1e3


def _monomials(n: Array, d: Array) -> Array:
    return np.stack([np.ones_like(n), n, d, n * n, n * d, d * d], axis=-1)


@dataclass(frozen=True)
class Quadratic(Form):
    """Theta: coefficients of {1, n, d, n^2, nd, d^2} of centred logarithms; all of them are linear."""

    @property
    def nonlinear(self) -> tuple[str, ...]:
        """None."""
        return ()

    def fitted_and_jacobian(self, theta_BK: Array, design: Design) -> tuple[Array, Array]:
        """Return log L [B, R] and the monomials [B, R, 6]."""
        x = _monomials(design.logs["N"], design.logs["D"])
        return theta_BK @ x.T, np.broadcast_to(x, (len(theta_BK), *x.shape))

    def starts(self, design: Design, value_BR: Array, weights_BR: Array, *, num_starts: int = 1) -> Array:
        """Return the least squares solution; there is one, whatever `num_starts`."""
        del num_starts
        x = _monomials(design.logs["N"], design.logs["D"])
        gram = np.einsum("br,rk,rl->bkl", weights_BR, x, x, optimize=True)
        gram += 1e-10 * np.eye(6) * np.trace(gram, axis1=1, axis2=2)[:, None, None] / 6
        target = np.einsum("br,rk->bk", weights_BR * np.log(value_BR), x)
        return np.linalg.solve(gram, target[..., None])[:, None, :, 0]

    def box(self, value_BR: Array) -> tuple[Array, Array]:
        """Bound nothing that a row could reach."""
        ends = np.full((len(value_BR), 6), _WIDEST)
        return -ends, ends

    def coefficients_of(self, theta_BK: Array, design: Design) -> Array:
        """Return c_0 ... c_dd of uncentred logarithms [B, 6]."""
        c, c_n, c_d, c_nn, c_nd, c_dd = theta_BK.T
        n, d = design.means["N"], design.means["D"]
        return np.stack(
            [
                c - c_n * n - c_d * d + c_nn * n * n + c_nd * n * d + c_dd * d * d,
                c_n - 2 * c_nn * n - c_nd * d,
                c_d - 2 * c_dd * d - c_nd * n,
                c_nn,
                c_nd,
                c_dd,
            ],
            axis=1,
        )

    def value(self, coefficients_BK: Array, points: Points) -> Array:
        """Return the loss of every coefficient vector at every point [B, P]."""
        n, d = np.log(np.atleast_1d(points["N"])), np.log(np.atleast_1d(points["D"]))
        # Far outside the rows a parabola may rise without bound; e^50 says as much as infinity.
        return np.exp(np.clip(coefficients_BK @ _monomials(n, d).T, -50.0, 50.0))


QUADRATIC = Quadratic(
    name="quadratic",
    equation="log L(N, D) = c_0 + c_n n + c_d d + c_nn n^2 + c_nd n d + c_dd d^2, n = log N, d = log D",
    source="a second-order response surface (Box and Wilson 1951) of log L",
    inputs=("N", "D"),
    coefficients=tuple(
        Coefficient(name, "free", meaning)
        for name, meaning in (
            ("c_0", "level"),
            ("c_n", "slope in log N"),
            ("c_d", "slope in log D"),
            ("c_nn", "bend in log N"),
            ("c_nd", "how the slopes move each other"),
            ("c_dd", "bend in log D"),
        )
    ),
)
"""Six free numbers; it may bend back upwards outside its rows."""
