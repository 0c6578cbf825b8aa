"""How wide a forecast's interval will be: what the runs of a state tell of the target, under every law that is believed.

Shapes: V laws of a form, R rows of one size, K parameters.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from kleiber.scaling.forms import Array
from kleiber.study.designing.beliefs import Belief, Beliefs
from kleiber.study.designing.grid import State, Trunks

__all__ = ["NORMAL_80", "Information", "weights_of"]

NORMAL_80 = 1.2816
"""Standard deviations of a normal to either end of its central 80%."""


@dataclass(frozen=True)
class _Part:
    """What the runs of one size tell of one form."""

    information_VKK: Array
    """G' W G."""
    pull_VK: Array
    """G' W r."""


@dataclass
class Information:
    """Judges states by the half-width of the 80% interval at the target.

    Each run's log loss has the gradient of its law as its mean's and errors with the structure that laws here are fitted
    with: a part shared by a size and one by a cell (misfit), one by a trunk, one of its own. The information of a
    size is G' W G with W the inverse of their covariance; sizes are independent and add up. The variance of the
    forecast is c' M^-1 c with c the target's gradient (c-optimality). Where the law is not of the form that will be fitted,
    its residuals r pull the forecast away by c' M^-1 G' W r - r(target). Squared, both are averaged over laws, and the interval adds
    one run's own scatter; half-widths are averaged over forms.

    Source:
        Chernoff 1953, local optimality; Chaloner and Verdinelli 1995, Bayesian designs; Box and Draper 1959, "A basis for the
        selection of a response surface design": a design for the variance alone trains where the fitted form is wrong.
    """

    beliefs: Beliefs
    fixed: State | None = None
    """What has been trained already: it tells, and no designer can take it back."""
    _parts: dict[tuple[int, Trunks], tuple[_Part, ...]] = field(default_factory=dict)

    def half_width_frac(self, state: State) -> float:
        """Return the foreseen half-width of the 80% interval over the loss."""
        widths = [
            NORMAL_80
            * np.sqrt(float(self._squared_errors(f, state).mean()) + self.beliefs.noise.total_frac**2)
            for f in range(len(self.beliefs.forms))
        ]
        return float(np.mean(widths))

    def least_half_width_frac(self) -> float:
        """Return the half-width that no ladder gets below: that of one run around a law known exactly."""
        return NORMAL_80 * self.beliefs.noise.total_frac

    def _squared_errors(self, f: int, state: State) -> Array:
        """Return the expected squared error of the forecast under each law [V]: its variance and its squared bias."""
        belief = self.beliefs.forms[f]
        information = np.repeat(belief.precision_KK[None], len(belief.target_VK), axis=0)
        pull = np.zeros_like(belief.target_VK)
        for i, trunks in enumerate(self.whole(state)):
            if trunks:
                part = self._part(i, trunks)[f]
                information, pull = information + part.information_VKK, pull + part.pull_VK
        solved = np.linalg.solve(information, belief.target_VK[..., None])[..., 0]
        variance = (belief.target_VK * solved).sum(axis=1)
        bias = (pull * solved).sum(axis=1) - belief.target_residual_V
        squared: Array = variance + bias**2
        return squared

    def whole(self, state: State) -> State:
        """Return a state with what is fixed."""
        if self.fixed is None:
            return state
        return tuple(old + new for old, new in zip(self.fixed, state, strict=True))

    def _part(self, i: int, trunks: Trunks) -> tuple[_Part, ...]:
        """Return what one size tells, by form."""
        key = (i, tuple(sorted(trunks, key=sorted)))
        if key not in self._parts:
            weights, horizons = weights_of(key[1], self.beliefs)
            self._parts[key] = tuple(_part_of(belief, i, weights, horizons) for belief in self.beliefs.forms)
        return self._parts[key]


def _part_of(belief: Belief, i: int, weights_RR: Array, horizons: list[int]) -> _Part:
    gradient_VRK, residual_VR = (
        belief.gradient_VSHK[:, i][:, horizons],
        belief.residual_VSH[:, i][:, horizons],
    )
    weighted_VKR = gradient_VRK.transpose(0, 2, 1) @ weights_RR
    return _Part(weighted_VKR @ gradient_VRK, (weighted_VKR @ residual_VR[..., None])[..., 0])


def weights_of(trunks: Trunks, beliefs: Beliefs) -> tuple[Array, list[int]]:
    """Return the inverse covariance of one size's rows [R, R], and the horizon of each."""
    rows = [(k, h) for k, trunk in enumerate(trunks) for h in sorted(trunk)]
    trunk_R, horizon_R = (np.array(part) for part in zip(*rows, strict=True))
    noise = beliefs.noise
    half = noise.misfit_frac**2 / 2
    covariance = (
        half
        + half * (horizon_R[:, None] == horizon_R)
        + noise.trunk_frac**2 * (trunk_R[:, None] == trunk_R)
        + (noise.run_frac**2 + 1e-8) * np.eye(len(rows))
    )
    return np.linalg.inv(covariance), horizon_R.tolist()
