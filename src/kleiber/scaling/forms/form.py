"""What every form of a law has: one interface of pure functions over many parameter vectors at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import numpy as np

from kleiber.scaling.forms.design import Array, Design, Points

__all__ = ["Coefficient", "Form", "Kind", "Response"]

Kind = Literal["floor", "level", "exponent", "scale", "free"]
"""What a coefficient is, which decides when rows are said not to determine it: a loss that remains, the size of a term,
a power, a scale of an input, or a number of either sign."""

Response = Literal["log", "identity"]
"""What residuals are taken of: the logarithm of a loss, or an accuracy as it is."""


@dataclass(frozen=True)
class Coefficient:
    """One number of a law."""

    name: str
    kind: Kind
    meaning: str
    """With its unit."""


@dataclass(frozen=True)
class Form(ABC):
    """A loss (or an accuracy) as a function of sizes, with the maths that a fit needs.

    Inside a fit a law is a vector theta of K numbers on which nothing but a box is imposed: logarithms of what must be
    positive, at the design's mean. `coefficients_of` turns it into what the equation prints.
    """

    name: str
    equation: str
    source: str
    """Paper and equation."""
    inputs: tuple[str, ...]
    """Keys of `INPUTS`."""
    coefficients: tuple[Coefficient, ...]
    """In the order of every coefficient vector."""
    response: Response = "log"

    @property
    def names(self) -> tuple[str, ...]:
        """Of the coefficients."""
        return tuple(one.name for one in self.coefficients)

    @property
    @abstractmethod
    def nonlinear(self) -> tuple[str, ...]:
        """Coefficients that variable projection searches; for given values of these the others are linear."""

    @abstractmethod
    def fitted_and_jacobian(self, theta_BK: Array, design: Design) -> tuple[Array, Array]:
        """Return the response [B, R] and its derivatives by theta [B, R, K]."""

    @abstractmethod
    def starts(self, design: Design, value_BR: Array, weights_BR: Array, *, num_starts: int = 1) -> Array:
        """Return starts of a refinement, the best first [B, num_starts, K].

        Args:
            design: The rows.
            value_BR: Losses, > 0 (or accuracies).
            weights_BR: How much each row counts.
            num_starts: For each of the B.
        """

    @abstractmethod
    def box(self, value_BR: Array) -> tuple[Array, Array]:
        """Return the least and the greatest theta [B, K] each: beyond them no row could tell."""

    @abstractmethod
    def coefficients_of(self, theta_BK: Array, design: Design) -> Array:
        """Return the coefficients of the equation, of uncentred inputs [B, K]."""

    @abstractmethod
    def value(self, coefficients_BK: Array, points: Points) -> Array:
        """Return the loss (or accuracy) of every coefficient vector at every point [B, P]."""

    @property
    def refits_from_grid(self) -> bool:
        """Whether a refit of the bootstrap searches the grid anew; else it starts from the point estimate."""
        return False

    @property
    def num_refit_starts(self) -> int:
        """From how many starts of its own rows a refit is refined beside the point estimate."""
        return 0

    def response_of(self, value: Array) -> Array:
        """Return what residuals are taken of."""
        return np.log(value) if self.response == "log" else np.asarray(value, dtype=np.float64)

    def value_of(self, response: Array) -> Array:
        """Return the loss or accuracy of a response: the inverse of `response_of`; an accuracy stays in 0 to 1."""
        return np.exp(response) if self.response == "log" else np.clip(response, 0.0, 1.0)
