"""Laws out of papers, for a plan that has no ladder of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from kleiber.errors import UsageError, nearest
from kleiber.runs import Convention
from kleiber.scaling.forms import CHINCHILLA
from kleiber.scaling.law import Law

__all__ = ["COEFFICIENTS", "PUBLISHED_LAWS", "Coefficients", "PublishedLaw", "published_law"]

COEFFICIENTS = CHINCHILLA.names
"""E, A, B, alpha and beta."""


class Coefficients(NamedTuple):
    """Of L(N, D) = E + A / N^alpha + B / D^beta, in the order of `COEFFICIENTS`.

    Example:
        >>> hoffmann = PUBLISHED_LAWS["hoffmann"].coefficients
        >>> round(hoffmann.loss(70e9, 1.4e12), 3)  # Chinchilla itself
        1.937
    """

    E: float
    A: float
    B: float
    alpha: float
    beta: float

    @classmethod
    def of(cls, law: Law) -> Coefficients:
        """Return the point estimate of a fitted law.

        Raises:
            UsageError: The law does not fall with size or with tokens, so that no size is best.
        """
        if law.form != CHINCHILLA.name:
            raise UsageError(
                f"This needs a law of form 'chinchilla', whose optimum has a formula; this one is of form {law.form!r}.",
                hint="kleiber fit ROWS --form chinchilla -o law.json",
            )
        values = cls(*(law.coefficients[name] for name in COEFFICIENTS))
        for name in ("A", "B", "alpha", "beta"):
            if not (math.isfinite(getattr(values, name)) and getattr(values, name) > 0):
                raise UsageError(
                    f"This law has no optimum: its {name} must be positive.",
                    got=getattr(values, name),
                    hint="fit it to rows of more sizes and horizons, or leave --law out",
                )
        return values

    @property
    def size_exponent(self) -> float:
        """The a of N_opt ~ C^a where C = 6 N D.

        Source:
            Hoffmann et al. 2022, arXiv:2203.15556, equation 4.
        """
        return self.beta / (self.alpha + self.beta)

    def loss(self, num_params: float, num_tokens: float) -> float:
        """Return the loss [nats/token]; without tokens it is infinite."""
        if num_tokens <= 0:
            return math.inf
        size_term: float = self.A * num_params**-self.alpha
        return self.E + size_term + self.B * float(num_tokens**-self.beta)


@dataclass(frozen=True)
class PublishedLaw:
    """Somebody's fit, without the rows and refits that a `Law` has."""

    name: str
    title: str
    """Who, when, where."""
    coefficients: Coefficients
    convention: Convention
    """Which parameters its N counts."""
    fitted_params: tuple[float, float]
    """Smallest and largest N of the runs it was fitted to."""


_CHINCHILLA_SIZES = (57e6, 16.2e9)

PUBLISHED_LAWS: dict[str, PublishedLaw] = {
    "besiroglu": PublishedLaw(
        name="besiroglu",
        title="Besiroglu et al. 2024, arXiv:2404.10102: a refit of 240 of Chinchilla's runs",
        coefficients=Coefficients(E=1.8172, A=482.01, B=2085.43, alpha=0.3478, beta=0.3658),
        convention="total",
        fitted_params=_CHINCHILLA_SIZES,
    ),
    # As printed in the paper; its exponents are rounded so far that the optimum moves, see arXiv:2404.10102.
    "hoffmann": PublishedLaw(
        name="hoffmann",
        title="Hoffmann et al. 2022, arXiv:2203.15556, approach 3, equation 10",
        coefficients=Coefficients(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28),
        convention="total",
        fitted_params=_CHINCHILLA_SIZES,
    ),
}


def published_law(name: str) -> PublishedLaw:
    """Return the law of that name.

    Raises:
        UsageError: There is none.
    """
    if name not in PUBLISHED_LAWS:
        raise UsageError(
            f"'{name}' is no published law. {nearest(name, PUBLISHED_LAWS)}", hint="--law besiroglu"
        )
    return PUBLISHED_LAWS[name]
