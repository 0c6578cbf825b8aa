"""The best size and tokens that a budget buys under a law, and how flat the optimum is.

What a size costs is the caller's: `tokens_of(N)` says how many tokens the budget buys at N parameters. A plain
compute budget of C = 6 N D has a closed form.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from kleiber.errors import UsageError
from kleiber.scaling.forms import CHINCHILLA, Array, Form
from kleiber.scaling.law import Intervals, intervals_of
from kleiber.scaling.points import points_at
from kleiber.scaling.published import Coefficients

__all__ = [
    "Curve",
    "OptimalRun",
    "TokensOf",
    "best_along",
    "best_tokens",
    "optimum",
    "optimum_intervals",
    "sizes_within",
]


class Curve(Protocol):
    """Anything that says a loss for a size and tokens: `Coefficients`, or `LawCurve` of a law of any form."""

    def loss(self, num_params: float, num_tokens: float) -> float:
        """Return the loss; without tokens it is infinite."""
        ...


TokensOf = Callable[[float], float]
"""Tokens that the budget buys at so many parameters; 0 or less when it buys none."""

_NUM_SCANNED = 49
_GOLDEN = (math.sqrt(5) - 1) / 2
_LOG_TOLERANCE = 1e-7
_NUM_GRID = 257


@dataclass(frozen=True)
class OptimalRun:
    """A size, the tokens it is trained on, and the loss [nats/token] that the law gives."""

    num_params: float
    num_tokens: float
    loss: float


def optimum(coefficients: Coefficients, flops: float) -> OptimalRun:
    """Return the run of the lowest loss among those with 6 N D = `flops`.

    Setting the derivative along the budget to zero leaves alpha A / N^alpha = beta B / D^beta, so that
    N = G (C / 6)^a with G = (alpha A / (beta B))^(1 / (alpha + beta)) and a = beta / (alpha + beta).

    Args:
        coefficients: Of the law.
        flops: Training compute, > 0 [FLOP].

    Raises:
        UsageError: `flops` is not positive and finite.

    Source:
        Hoffmann et al. 2022, arXiv:2203.15556, equation 4.

    Example:
        >>> from kleiber.scaling.published import PUBLISHED_LAWS
        >>> chinchilla = optimum(PUBLISHED_LAWS["besiroglu"].coefficients, 5.76e23)
        >>> f"{chinchilla.num_params:.3g} {chinchilla.num_tokens:.3g}"
        '7.22e+10 1.33e+12'
    """
    if not (math.isfinite(flops) and flops > 0):
        raise UsageError("A compute budget must be a positive number.", got=flops, hint="--budget-flops 1e21")
    _, A, B, alpha, beta = coefficients
    scale = (alpha * A / (beta * B)) ** (1 / (alpha + beta))
    num_params = scale * (flops / 6) ** coefficients.size_exponent
    num_tokens = flops / 6 / num_params
    return OptimalRun(num_params, num_tokens, coefficients.loss(num_params, num_tokens))


def best_along(coefficients: Curve, tokens_of: TokensOf, low: float, high: float) -> OptimalRun:
    """Return the run of the lowest loss between two sizes, whatever a size costs.

    A scan of log N brackets the minimum, golden section narrows it; at equal losses the smaller size wins.

    Args:
        coefficients: Of the law, or a curve of another form.
        tokens_of: Tokens that the budget buys at a size.
        low: Smallest size [parameters].
        high: Largest size [parameters].

    Raises:
        UsageError: The budget buys no token at any size.

    Source:
        With tokens_of = C / (6 N) - D_inference / 3 the optimum of Sardana et al. 2024, arXiv:2401.00448, equation 3,
        which fixes the loss and minimizes the compute: the same runs, asked for from the other side.
    """

    def loss(log_n: float) -> float:
        return coefficients.loss(math.exp(log_n), tokens_of(math.exp(log_n)))

    first, last = math.log(low), math.log(high)
    scanned = [first + (last - first) * k / (_NUM_SCANNED - 1) for k in range(_NUM_SCANNED)]
    losses = [loss(log_n) for log_n in scanned]
    k = losses.index(min(losses))
    if math.isinf(losses[k]):
        raise UsageError("The budget buys no token at any size.", hint="give a larger budget")
    log_n = _golden_section(loss, scanned[max(0, k - 1)], scanned[min(_NUM_SCANNED - 1, k + 1)])
    # The ends of a bracket are no points of the search: the best size may be the smallest or largest there is.
    log_n = min((log_n, scanned[k]), key=loss)
    num_params = math.exp(log_n)
    return OptimalRun(num_params, tokens_of(num_params), loss(log_n))


def _golden_section(function: Callable[[float], float], low: float, high: float) -> float:
    """Return the minimum of a function with one valley between two points."""
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = function(left), function(right)
    while high - low > _LOG_TOLERANCE:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = function(right)
    return (low + high) / 2


def best_tokens(coefficients: Coefficients, num_params: float, inference_tokens: float = 0.0) -> float:
    """Return the tokens for which `num_params` is the compute-optimal size: the optimum read backwards.

    The size is optimal where alpha A / N^alpha = (1 + D_inference / (3 D)) beta B / D^beta, for training takes
    6 N D and inference 2 N D_inference. The right side falls with D, so bisection finds it.

    Args:
        coefficients: Of the law.
        num_params: N, > 0.
        inference_tokens: Tokens that will be served over the model's life.

    Example:
        >>> law = Coefficients(E=1.0, A=100.0, B=100.0, alpha=0.5, beta=0.5)
        >>> round(best_tokens(law, 1e6)), round(optimum(law, 6e12).num_params)  # a symmetric law: N = D
        (1000000, 1000000)
    """
    _, A, B, alpha, beta = coefficients
    gain: float = alpha * A * num_params**-alpha

    def excess(log_d: float) -> float:
        tokens = math.exp(log_d)
        slope: float = beta * B * tokens**-beta
        return (1 + inference_tokens / (3 * tokens)) * slope - gain

    low = (math.log(beta * B) - math.log(gain)) / beta  # without inference this is the answer
    high = low
    while excess(high) > 0:
        high += 1
    while high - low > _LOG_TOLERANCE:
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return math.exp((low + high) / 2)


def sizes_within(
    coefficients: Curve,
    tokens_of: TokensOf,
    best: OptimalRun,
    worse_frac: float,
    bounds: tuple[float, float],
) -> tuple[float, float]:
    """Return the smallest and the largest size whose loss on the same budget is at most `worse_frac` higher.

    Args:
        coefficients: Of the law.
        tokens_of: Tokens that the budget buys at a size.
        best: The optimum of that budget.
        worse_frac: Of its loss, > 0.
        bounds: Sizes beyond which nobody looks.
    """
    bound = best.loss * (1 + worse_frac)
    edges = []
    for end in bounds:
        inside, outside = math.log(best.num_params), math.log(end)
        if coefficients.loss(end, tokens_of(end)) <= bound:
            inside = outside
        while abs(outside - inside) > _LOG_TOLERANCE:
            middle = (inside + outside) / 2
            size = math.exp(middle)
            if coefficients.loss(size, tokens_of(size)) <= bound:
                inside = middle
            else:
                outside = middle
        edges.append(math.exp(inside))
    return edges[0], edges[1]


def optimum_intervals(
    samples: Sequence[Sequence[float]],
    tokens_of: TokensOf,
    low: float,
    high: float,
    *,
    form: Form = CHINCHILLA,
) -> tuple[Intervals, Intervals]:
    """Return where the optimal size and its tokens lie when the law is resampled.

    Each sample's minimum is taken on a grid of log N and moved to the vertex of the parabola through its neighbours.

    Args:
        samples: Coefficient vectors, as `Law.samples`.
        tokens_of: Tokens that the budget buys at a size.
        low: Smallest size; a sample whose optimum is smaller counts as it.
        high: Largest size, likewise.
        form: Of the samples; each token is taken as new, and all parameters as active.
    """
    log_n = np.linspace(math.log(low), math.log(high), _NUM_GRID)
    tokens = np.array([tokens_of(float(size)) for size in np.exp(log_n)])
    log_n, tokens = log_n[tokens > 0], tokens[tokens > 0]
    points = points_at(form, np.exp(log_n), tokens, unique_tokens=tokens, active_frac=1.0)
    best = _minima(form.value(np.array(samples, dtype=np.float64), points), log_n)
    sizes = np.exp(best)
    bought = np.exp(np.interp(best, log_n, np.log(tokens)))
    return intervals_of(sizes), intervals_of(bought)


def _minima(loss: Array, log_n: Array) -> Array:
    """Return log N of each sample's lowest loss."""
    k = np.clip(loss.argmin(axis=1), 1, len(log_n) - 2)
    rows = np.arange(len(loss))
    left, middle, right = loss[rows, k - 1], loss[rows, k], loss[rows, k + 1]
    curvature = left - 2 * middle + right
    with np.errstate(divide="ignore", invalid="ignore"):  # a flat sample has no vertex
        shift = np.where(curvature > 0, (left - right) / (2 * curvature), 0.0)
    step = log_n[1] - log_n[0]
    found: Array = log_n[k] + step * np.clip(shift, -1, 1)
    return found
