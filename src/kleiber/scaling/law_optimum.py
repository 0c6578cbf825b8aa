"""The best size and tokens under a law of any form; of Chinchilla's form, of many coefficient vectors at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kleiber.errors import UsageError
from kleiber.scaling.forms import CHINCHILLA, Array, Form
from kleiber.scaling.law import Law
from kleiber.scaling.optimum import Curve, OptimalRun, TokensOf, best_along
from kleiber.scaling.points import points_at

__all__ = ["LawCurve", "best_near_rows", "optima", "optimum_of_law"]

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
    sizes = [*(float(row.num_params.by(law.convention)) for row in law.rows), math.sqrt(flops / 6)]
    return best_near_rows(curve, tokens_of, sizes, of=f"for {flops:g} FLOP")


def best_near_rows(
    curve: Curve,
    tokens_of: TokensOf,
    sizes: Sequence[float],
    *,
    of: str,
    bounds: tuple[float, float] = (0.0, math.inf),
) -> OptimalRun:
    """Return the run of the lowest loss near the rows, or else farther and farther from them.

    Args:
        curve: Of the law.
        tokens_of: Tokens that the budget buys at a size.
        sizes: Of the rows [parameters].
        of: What the budget is, for the message.
        bounds: The smallest and the largest size there is; the best one may be either.

    Raises:
        UsageError: The loss falls up to the smallest or largest size that is looked at, or the budget buys no token.
    """
    found = None
    for far in _FARTHER:
        low, high = max(bounds[0], min(sizes) / far), min(bounds[1], max(sizes) * far)
        if low >= high or tokens_of(low) <= 0:
            continue
        found = best_along(curve, tokens_of, low, high)
        is_above = low in bounds or found.num_params > low * 1.01
        if is_above and (high in bounds or found.num_params < high / 1.01):
            return found
    if found is None:
        raise UsageError("The budget buys no token at any size near the law's rows.", hint="a larger budget")
    raise UsageError(
        f"Under this law no size is best {of}: its loss still falls at {found.num_params:.3g} parameters. "
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
