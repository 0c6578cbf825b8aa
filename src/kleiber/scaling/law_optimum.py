"""The best size and tokens under a law of any form; of Chinchilla's form, of many coefficient vectors at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from kleiber.errors import UsageError
from kleiber.scaling.forms import CHINCHILLA, Array, Form
from kleiber.scaling.law import Law
from kleiber.scaling.optimum import OptimalRun, best_along
from kleiber.scaling.points import points_at

__all__ = ["LawCurve", "optima", "optimum_of_law"]

_FARTHER = (3.0, 30.0, 1e4)
"""How far beyond the rows' sizes, as a factor, an optimum is looked for, first near them: a form that bends freely may
fall again where no row is."""


@dataclass(frozen=True)
class LawCurve:
    """The point estimate of a law of any form, as `best_along` asks it."""

    law: Law
    unique_tokens: float | None = None
    """Different tokens there are; None where each is new."""
    active_frac: float | None = None

    def loss(self, num_params: float, num_tokens: float) -> float:
        """Return the loss; without tokens it is infinite."""
        if num_tokens <= 0:
            return math.inf
        points = points_at(
            self.law.shape,
            num_params,
            num_tokens,
            unique_tokens=num_tokens if self.unique_tokens is None else self.unique_tokens,
            active_frac=self.active_frac,
        )
        return float(self.law.losses(points)[0])


def optimum_of_law(
    law: Law,
    flops: float,
    *,
    inference_tokens: float = 0.0,
    unique_tokens: float | None = None,
    active_frac: float | None = None,
) -> OptimalRun:
    """Return the run of the lowest loss on a budget under a law of any form.

    The budget pays for training, 6 N D, and for serving, 2 N a token; of a mixture of experts only the active
    parameters work.

    Args:
        law: Of any form that falls with size and with tokens.
        flops: Training and serving together, > 0 [FLOP].
        inference_tokens: Tokens that will be served over the model's life.
        unique_tokens: Different tokens there are; None where each is new.
        active_frac: Active over all parameters, for a mixture of experts.

    Raises:
        UsageError: The law is of one variable or of accuracies, the budget is not positive or buys nothing, or the loss
            falls up to the smallest or largest size that is looked at, so that no size is best.

    Source:
        Sardana et al. 2024, arXiv:2401.00448, equation 3, for the part of serving.
    """
    if not {"N", "D"} <= set(law.shape.inputs):
        raise UsageError(
            f"A law of form {law.form!r} has no optimum: it does not weigh size against tokens.",
            hint="kleiber fit ROWS --form chinchilla",
        )
    if not (math.isfinite(flops) and flops > 0):
        raise UsageError("A compute budget must be a positive number.", got=flops, hint="--budget-flops 1e21")
    if law.loss_unit == "accuracy":
        raise UsageError(
            "An optimum is sought of losses; this law is of accuracies.",
            hint="kleiber fit ROWS --form chinchilla",
        )
    working = 1.0 if active_frac is None else active_frac

    def tokens_of(num_params: float) -> float:
        return flops / (6 * working * num_params) - inference_tokens / 3

    curve = LawCurve(law, unique_tokens, active_frac)
    sizes = [float(row.num_params.by(law.convention)) for row in law.rows]
    for far in _FARTHER:
        low, high = min(sizes) / far, max(*sizes, math.sqrt(flops / 6)) * far
        found = best_along(curve, tokens_of, low, high)
        if low * 1.01 < found.num_params < high / 1.01:
            return found
    raise UsageError(
        f"Under this law no size is best for {flops:g} FLOP: its loss still falls at {found.num_params:.3g} parameters. "
        "It is too far from the rows.",
        hint="--form chinchilla, or a budget nearer to the rows",
    )


def optima(form: Form, coefficients_BK: Array, flops: Array) -> Array:
    """Return the best size of every coefficient vector for every budget of C = 6 N D [B, budgets].

    Args:
        form: Chinchilla's.
        coefficients_BK: E, A, B, alpha and beta of each.
        flops: Budgets [FLOP].
    """
    assert form.name == CHINCHILLA.name  # noqa: S101 - the formula is of that form
    _, A, B, alpha, beta = (coefficients_BK[:, k, None] for k in range(5))
    with np.errstate(divide="ignore"):  # a refit whose B is 0 wants no token
        log_scale = (np.log(alpha * A) - np.log(beta * B)) / (alpha + beta)
    sizes: Array = np.exp(log_scale + beta / (alpha + beta) * np.log(flops / 6))
    return sizes
