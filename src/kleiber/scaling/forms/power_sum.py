"""Sums of powers: L = E + A / N^alpha + B / D^beta and its kin, fitted on the logarithm by log-sum-exp."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from kleiber.scaling.forms.design import Array, Design, Points
from kleiber.scaling.forms.form import Form
from kleiber.scaling.forms.projection import Feature, project

__all__ = ["EXPONENTS", "LOWEST_TERM", "PowerSum", "Term"]

EXPONENTS = tuple(np.geomspace(0.03, 1.5, 32).tolist())
"""Grid of an exponent; published ones lie between 0.05 and 0.8."""

LOWEST_TERM = -16.0
"""A term e^-16 of the loss is 0 for every purpose, and its logarithm is finite."""

_EXPONENT_BOUNDS = (0.01, 3.0)
_ZERO_FLOOR = 1e-6
"""Below this part of the loss E is called 0: no row can tell them apart."""


class Term(NamedTuple):
    """A level over powers of inputs: `Term("A", (("N", "alpha"),))` is A / N^alpha."""

    level: str
    powers: tuple[tuple[str, str], ...] = ()
    """Input and the exponent that divides by its power; two terms may share an exponent."""


@dataclass(frozen=True)
class PowerSum(Form):
    """A sum of terms. Theta holds the logarithm of each at the design's mean, then the exponents."""

    terms: tuple[Term, ...] = ()
    grid: dict[str, tuple[float, ...]] = field(default_factory=dict, hash=False)
    """Where variable projection looks for each exponent; a grid with negative values lets it be negative."""

    @property
    def nonlinear(self) -> tuple[str, ...]:
        """The exponents, in the order of theta."""
        return self.names[len(self.terms) :]

    @property
    def refits_from_grid(self) -> bool:
        """A grid of two exponents costs a refit less than its refinement."""
        return len(self.nonlinear) <= 2

    def _exponents(self, theta_BK: Array) -> dict[str, Array]:
        num_terms = len(self.terms)
        return {name: theta_BK[:, num_terms + k, None] for k, name in enumerate(self.nonlinear)}

    def fitted_and_jacobian(self, theta_BK: Array, design: Design) -> tuple[Array, Array]:
        """Return log L [B, R] and its derivatives [B, R, K]."""
        exponents = self._exponents(theta_BK)
        shape = (len(theta_BK), design.num_rows)
        logs = []
        for t, term in enumerate(self.terms):
            log_term = np.broadcast_to(theta_BK[:, t, None], shape)
            for name, exponent in term.powers:
                log_term = log_term - exponents[exponent] * design.logs[name]
            logs.append(log_term)
        terms = np.stack(logs, axis=-1)
        top = terms.max(axis=-1)
        shares = np.exp(terms - top[..., None])
        total = shares.sum(axis=-1)
        shares /= total[..., None]
        slopes = np.zeros((*shape, len(self.nonlinear)))
        for t, term in enumerate(self.terms):
            for name, exponent in term.powers:
                slopes[..., self.nonlinear.index(exponent)] -= design.logs[name] * shares[..., t]
        return top + np.log(total), np.concatenate([shares, slopes], axis=-1)

    def starts(self, design: Design, value_BR: Array, weights_BR: Array, *, num_starts: int = 1) -> Array:
        """Return the best grid points, each with its non-negative least squares levels."""
        names = self.nonlinear
        features = [self._feature(term, design) for term in self.terms]
        shape = tuple(len(self.grid[name]) for name in names)
        terms, best = project(features, shape, value_BR, weights_BR, num_starts=num_starts)
        floor = 1e-5 * value_BR.min(axis=1)[:, None, None]  # a term of 0 has no logarithm to refine
        places = np.unravel_index(best, shape)
        found = [np.array(self.grid[name])[place] for name, place in zip(names, places, strict=True)]
        return np.concatenate([np.log(np.maximum(terms, floor)), np.stack(found, axis=-1)], axis=-1)

    def _feature(self, term: Term, design: Design) -> Feature:
        """Return exp(-sum of exponent x log input) on the grid of the term's exponents."""
        axes = tuple(dict.fromkeys(self.nonlinear.index(exponent) for _, exponent in term.powers))
        shape = tuple(len(self.grid[self.nonlinear[axis]]) for axis in axes)
        log_term = np.zeros((*shape, design.num_rows))
        for name, exponent in term.powers:
            place = axes.index(self.nonlinear.index(exponent))
            ends = [1] * (len(axes) + 1)
            ends[place] = shape[place]
            values = np.array(self.grid[exponent]).reshape(ends)
            log_term -= values * design.logs[name]
        return Feature(axes, np.exp(log_term))

    def box(self, value_BR: Array) -> tuple[Array, Array]:
        """Bound each term by what could matter to its losses, and the exponents by what was ever seen."""
        log_value = np.log(value_BR)
        lowest, highest = log_value.min(axis=1)[:, None], log_value.max(axis=1)[:, None]
        room = np.array([0.0 if not term.powers else 1.0 for term in self.terms])
        ends = [self._exponent_bounds(name) for name in self.nonlinear]
        each = np.ones((len(lowest), 1))
        low = np.hstack([lowest + LOWEST_TERM * np.ones(len(room)), each * [low for low, _ in ends]])
        high = np.hstack([highest + room, each * [high for _, high in ends]])
        return low, high

    def _exponent_bounds(self, name: str) -> tuple[float, float]:
        low, high = _EXPONENT_BOUNDS
        return (-high, high) if min(self.grid[name]) < 0 else (low, high)

    def coefficients_of(self, theta_BK: Array, design: Design) -> Array:
        """Return levels and exponents of uncentred inputs [B, K]."""
        exponents = self._exponents(theta_BK)
        at_mean = np.exp(theta_BK[:, : len(self.terms)])
        total, found = at_mean.sum(axis=1), []
        for t, term in enumerate(self.terms):
            level = theta_BK[:, t]
            for name, exponent in term.powers:
                level = level + exponents[exponent][:, 0] * design.means[name]
            is_zero = (at_mean[:, t] < _ZERO_FLOOR * total) if not term.powers else False
            found.append(np.where(is_zero, 0.0, np.exp(level)))
        return np.concatenate([np.stack(found, axis=1), theta_BK[:, len(self.terms) :]], axis=1)

    def value(self, coefficients_BK: Array, points: Points) -> Array:
        """Return the loss of every coefficient vector at every point [B, P]."""
        exponents = self._exponents(coefficients_BK)
        logs = {name: np.log(np.atleast_1d(points[name])) for name in self.inputs}
        loss = np.zeros((len(coefficients_BK), len(next(iter(logs.values())))))
        for t, term in enumerate(self.terms):
            level = coefficients_BK[:, t, None]
            power = np.zeros_like(loss)
            for name, exponent in term.powers:
                power = power - exponents[exponent] * logs[name]
            loss = loss + level * np.exp(power)
        return loss
