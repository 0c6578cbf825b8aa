"""Numbers that are not known exactly, as equally likely values in an order of their own. No random numbers are needed.

Shapes: B draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from kleiber.scaling.forms import Array

__all__ = ["Spread", "normals"]

_Z_95 = 1.959964


@dataclass(frozen=True)
class Spread:
    """A number and where it may lie."""

    value: float
    low: float
    high: float
    is_uniform: bool = False
    """Between the ends, each as likely, as ranges of papers are read; else they are those of a 95% interval."""

    @classmethod
    def exact(cls, value: float) -> Spread:
        """Return a number that is known."""
        return cls(value, value, value)

    def draws(self, num_draws: int, seed: int) -> Array:
        """Return equally likely values [B]; a single one is the value itself.

        Args:
            num_draws: B.
            seed: Of their order: numbers of one order rise and fall together.

        Example:
            >>> Spread(2.0, 1.0, 3.0, is_uniform=True).draws(4, 0).mean()
            np.float64(2.0)
        """
        if num_draws == 1:
            return np.array([self.value])
        if self.is_uniform:
            parts = (np.arange(num_draws) + 0.5) / num_draws
            return self.low + (self.high - self.low) * np.random.default_rng(seed).permutation(parts)
        return self.value + (self.high - self.low) / (2 * _Z_95) * normals(num_draws, seed)


def normals(num_draws: int, seed: int = 0) -> Array:
    """Return equally likely values of a standard normal in a shuffled order [B]; a single one is 0.

    Example:
        >>> sorted(normals(3).round(3).tolist())
        [-0.967, 0.0, 0.967]
    """
    inverse = NormalDist().inv_cdf
    values = np.array([inverse((k + 0.5) / num_draws) for k in range(num_draws)])
    shuffled: Array = np.random.default_rng(seed).permutation(values)
    return shuffled
