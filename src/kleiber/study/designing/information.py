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


@dataclass
class Information:
    """Judges states by the half-width of the 80% interval at the target.

    Each run's log loss has the gradient of its law as its mean's and errors with the structure that laws here are fitted
    with: a part shared by a size and one by a cell (misfit), one by a trunk, one of its own. The information of a
    size is G' W G with W the inverse of their covariance; sizes are independent and add up. The variance of the
    forecast is c' M^-1 c with c the target's gradient (c-optimality), averaged over laws, and the interval adds one run's
    own scatter; half-widths are averaged over forms.

    Source:
        Chernoff 1953, local optimality; Chaloner and Verdinelli 1995, Bayesian designs.
    """

    beliefs: Beliefs
    fixed: State | None = None
    """What has been trained already: it tells, and no designer can take it back."""
    _parts: dict[tuple[int, Trunks], tuple[Array, ...]] = field(default_factory=dict)

    def half_width_frac(self, state: State) -> float:
        """Return the foreseen half-width of the 80% interval over the loss."""
        widths = [
            NORMAL_80 * np.sqrt(float(self._variances(f, state).mean()) + self.beliefs.noise.total_frac**2)
            for f in range(len(self.beliefs.forms))
        ]
        return float(np.mean(widths))

    def least_half_width_frac(self) -> float:
        """Return the half-width that no ladder gets below: that of one run around a law known exactly."""
        return NORMAL_80 * self.beliefs.noise.total_frac

    def _variances(self, f: int, state: State) -> Array:
        belief = self.beliefs.forms[f]
        information = np.repeat(belief.precision_KK[None], len(belief.target_VK), axis=0)
        for i, trunks in enumerate(self.whole(state)):
            if trunks:
                information = information + self._part(i, trunks)[f]
        solved = np.linalg.solve(information, belief.target_VK[..., None])[..., 0]
        variance: Array = (belief.target_VK * solved).sum(axis=1)
        return variance

    def whole(self, state: State) -> State:
        """Return a state with what is fixed."""
        if self.fixed is None:
            return state
        return tuple(old + new for old, new in zip(self.fixed, state, strict=True))

    def _part(self, i: int, trunks: Trunks) -> tuple[Array, ...]:
        """Return the information of one size by form, [V, K, K] each."""
        key = (i, tuple(sorted(trunks, key=sorted)))
        if key not in self._parts:
            weights, horizons = weights_of(key[1], self.beliefs)
            self._parts[key] = tuple(
                _information(belief, i, weights, horizons) for belief in self.beliefs.forms
            )
        return self._parts[key]


def _information(belief: Belief, i: int, weights_RR: Array, horizons: list[int]) -> Array:
    gradient_VRK = belief.gradient_VSHK[:, i][:, horizons]
    found: Array = gradient_VRK.transpose(0, 2, 1) @ weights_RR @ gradient_VRK
    return found


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
