"""The law that foretold best, or several as one, and intervals that count how far others are from it.

Shapes: M members, B refits, P points.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from kleiber.runs import Document
from kleiber.scaling.forms import FORMS, Array, Form, form_of
from kleiber.scaling.points import points_at

__all__ = ["Z_80", "Z_95", "Average", "Member", "deviation", "foretold"]

Z_80, Z_95 = 1.2816, 1.96
"""Halves of central intervals of a normal. Public runs needed 1.4 times as much for 95% as for 80%, a normal takes 1.53."""
_SUM_ERROR = 1e-6


class Member(Document):
    """One form's law in an average, or beside it."""

    candidate: str
    """Its name in `CANDIDATES`."""
    form: str
    floor: float = Field(default=0.0, ge=0)
    """Loss that remains [nats/token], of the form `kaplan`: given, not fitted."""
    weight: float
    """In the mean; 0 of a rival."""
    backtest_error_frac: float | None
    """Typical error of its own forecasts of the rows; None where they could not be backtested."""
    coefficients: dict[str, float]
    noise_frac: float
    """Of one new run around this form."""
    samples: tuple[tuple[float, ...], ...]
    """Of the bootstrap."""

    @model_serializer(mode="wrap")
    def _without_absent(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Laws without a floor keep the hash that they had before there was the key.
        written: dict[str, Any] = handler(self)
        if not self.floor:
            written.pop("floor", None)
        return written

    @property
    def shape(self) -> Form:
        """The form's maths."""
        return form_of(self.form, floor=self.floor)


class Average(Document):
    """What `--form auto` found: as a rule one law of weight 1, and its rivals."""

    for_factor: float
    """How much more compute the run to come takes, as it was asked."""
    backtest_factor: float | None
    """Over what factor the rows could be backtested; None where they could not be."""
    num_cuts: int
    num_cells: int
    """Rows foretold by laws that did not see them."""
    error_frac: float | None
    """Typical error of the leading law, reckoned from those cells: few of them may be right by luck. Part of every interval."""
    trial_ratio: float | None = None
    """80% quantile of |error| over deviation in those cells: above 1.28 the deviation said too little of them."""
    widening: float
    """By what the intervals are multiplied so that they hold what they say."""
    members: tuple[Member, ...]
    """The heaviest first."""
    rivals: tuple[Member, ...] = ()
    """Laws that foretold nearly as well: how far they are from the mean widens the intervals."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.members or abs(math.fsum(one.weight for one in self.members) - 1) > _SUM_ERROR:
            raise ValueError("the weights of an average must sum to 1")
        for one in (*self.members, *self.rivals):
            if one.form not in FORMS or set(one.coefficients) != set(FORMS[one.form].names):
                raise ValueError(f"member {one.candidate!r} has not the coefficients of form {one.form!r}")
        return self

    def log_losses(self, inputs: Mapping[str, Any]) -> tuple[Array, Array]:
        """Return the mean of log L and its standard deviation, [P] each.

        The standard deviation is that of `deviation`, which counts refits, noise, rivals and backtests, times `widening`.

        Args:
            inputs: Arguments of `points_at` but the form.

        Raises:
            UsageError: A number is not positive and finite, or one that a member needs is missing.
        """
        weight_M = np.array([one.weight for one in self.members])
        log_MP, variance_MP = (
            np.stack(part) for part in zip(*(foretold(one, inputs) for one in self.members), strict=True)
        )
        mean_P = weight_M @ log_MP
        every_MP = np.stack([*log_MP, *(foretold(one, inputs)[0] for one in self.rivals)])
        return mean_P, self.widening * deviation(mean_P, weight_M @ variance_MP, every_MP, self.error_frac)


def deviation(mean_P: Array, variance_P: Array, every_MP: Array, error_frac: float | None) -> Array:
    """Return the standard deviation of log L [P] behind an interval, before it is widened.

    Args:
        mean_P: Log loss foretold.
        variance_P: Of the laws' refits and one run's noise.
        every_MP: What each form says, rivals too: their mean square distance from the mean is added.
        error_frac: Reckoned error of backtests, whose square is added; None where there were none.

    Example:
        >>> deviation(np.zeros(1), np.array([0.02**2]), np.array([[0.0], [0.04]]), 0.01).round(6).tolist()
        [0.036056]
    """
    found: Array = np.sqrt(variance_P + np.mean((every_MP - mean_P) ** 2, axis=0) + (error_frac or 0.0) ** 2)
    return found


def foretold(member: Member, inputs: Mapping[str, Any]) -> tuple[Array, Array]:
    """Return log L [P] and the variance of a new run around it, of refits and noise."""
    form = member.shape
    points = points_at(form, **inputs)
    point = np.array([[member.coefficients[name] for name in form.names]])
    log_P = np.log(form.value(point, points)[0])
    refit_BP = np.log(form.value(np.array(member.samples), points))
    low_P, high_P = np.quantile(refit_BP, (0.1, 0.9), axis=0)
    return log_P, member.noise_frac**2 + ((high_P - low_P) / (2 * Z_80)) ** 2
