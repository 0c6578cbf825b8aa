"""Several laws that foretold alike, as one: their weighted mean, and intervals that count how far they differ.

Shapes: M members, B refits, P points.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from pydantic import model_validator

from kleiber.runs import Document
from kleiber.scaling.forms import FORMS, Array, form_of
from kleiber.scaling.points import points_at

__all__ = ["SINGLE", "T_80", "T_95", "WIDENING", "Average", "Member"]

WIDENING = 1.5
"""Makes 80% intervals hold 80% of forecasts at ten times the compute over four public sources (bench/laws/backtest.py)."""

T_80, T_95 = 1.533, 2.776
"""Quantiles of Student's t with 4 degrees of freedom: extrapolations err further, now and then, than a normal says."""
_NORMAL_80 = 1.2816
_SUM_ERROR = 1e-6
_UNTESTED = 2.0
"""On the variance of laws that could not be backtested."""
SINGLE = _UNTESTED**-0.5
"""The widening that leaves the intervals of a single law as its bootstrap gives them."""


class Member(Document):
    """One form's law in an average."""

    candidate: str
    """Its name in `CANDIDATES`."""
    form: str
    weight: float
    backtest_error_frac: float | None
    """Typical error of its own forecasts of the rows; None where they could not be backtested."""
    coefficients: dict[str, float]
    noise_frac: float
    """Of one new run around this form."""
    samples: tuple[tuple[float, ...], ...]
    """Of the bootstrap."""


class Average(Document):
    """What `--form auto` found."""

    for_factor: float
    """How much more compute the run to come takes, as it was asked."""
    backtest_factor: float | None
    """Over what factor the rows could be backtested; None where they could not be."""
    num_cuts: int
    num_cells: int
    """Rows foretold by laws that did not see them."""
    error_frac: float | None
    """Typical error of the average in those cells; intervals are as much of it as of what the laws themselves say."""
    widening: float
    """By what the intervals are multiplied so that they hold what they say."""
    members: tuple[Member, ...]
    """The heaviest first."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.members or abs(math.fsum(one.weight for one in self.members) - 1) > _SUM_ERROR:
            raise ValueError("the weights of an average must sum to 1")
        for one in self.members:
            if one.form not in FORMS or set(one.coefficients) != set(FORMS[one.form].names):
                raise ValueError(f"member {one.candidate!r} has not the coefficients of form {one.form!r}")
        return self

    def log_losses(self, inputs: Mapping[str, Any]) -> tuple[Array, Array]:
        """Return the mean of log L and its standard deviation, [P] each.

        The laws' own variance is that between the members, their refits' and one run's noise. Rows that fall near their laws
        say little of extrapolation, and a few backtests little of how it grows with distance: where there was a
        backtest the deviation is the geometric mean of the laws' own and the error seen, else the laws' own twofold
        in variance; both times `widening`.

        Args:
            inputs: Arguments of `points_at` but the form.

        Raises:
            UsageError: A number is not positive and finite, or one that a member needs is missing.
        """
        weight_M = np.array([one.weight for one in self.members])
        log_MP, variance_MP = (np.stack(part) for part in zip(*self._members(inputs), strict=True))
        mean_P = weight_M @ log_MP
        variance_P = weight_M @ ((log_MP - mean_P) ** 2 + variance_MP)
        if self.error_frac is None:
            return mean_P, self.widening * np.sqrt(_UNTESTED * variance_P)
        return mean_P, self.widening * np.sqrt(self.error_frac * np.sqrt(variance_P))

    def _members(self, inputs: Mapping[str, Any]) -> list[tuple[Array, Array]]:
        return [_log_loss(one, inputs) for one in self.members]


def _log_loss(member: Member, inputs: Mapping[str, Any]) -> tuple[Array, Array]:
    """Return log L [P] and the variance of a new run around it."""
    form = form_of(member.form)
    points = points_at(form, **inputs)
    point = np.array([[member.coefficients[name] for name in form.names]])
    log_P = np.log(form.value(point, points)[0])
    refit_BP = np.log(form.value(np.array(member.samples), points))
    low_P, high_P = np.quantile(refit_BP, (0.1, 0.9), axis=0)
    return log_P, member.noise_frac**2 + ((high_P - low_P) / (2 * _NORMAL_80)) ** 2
