"""Two ladders beside each other: is the difference real, and at which scale do they cross?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kleiber.errors import ConventionError, UsageError
from kleiber.scaling.forms import Array, rule_of_thumb_flops
from kleiber.scaling.law import Interval, Law, intervals_of
from kleiber.scaling.points import points_at

__all__ = ["Comparison", "Crossing", "Difference", "compare"]

_NUM_SCANNED = 121
_MOST_CROSS = 0.8
"""Part of the pairs of refits that must cross for an 80% interval of where they do."""
_SHUFFLE = 8
"""Seed of an order; any would do."""
_DECADES_BEYOND = 3.0
"""How far beyond the dearest row a crossing is looked for."""


@dataclass(frozen=True)
class Difference:
    """Of the second law's loss less the first's, at one compute."""

    flops: float
    num_params: float
    num_tokens: float
    first_loss: float
    second_loss: float
    difference: float
    interval_80: Interval
    interval_95: Interval
    second_is_lower_frac: float
    """Part of the pairs of refits in which the second law's loss is lower."""

    @property
    def is_real(self) -> bool:
        """Whether the 95% interval leaves out 0."""
        return self.interval_95[0] > 0 or self.interval_95[1] < 0


@dataclass(frozen=True)
class Crossing:
    """Where the better of two becomes the worse."""

    flops: float | None
    """By the point estimates; None where they do not cross in the range."""
    interval_80: Interval | None
    """Of the refits that cross in the range; None when fewer than four in five of them do: it would say too much."""
    crosses_frac: float
    """Part of the pairs of refits that cross in the range."""
    low_flops: float
    """The range looked at: from the cheapest row to a thousand times the dearest."""
    high_flops: float


@dataclass(frozen=True)
class Comparison:
    """What two laws say of the same runs to come."""

    tokens_per_param: float
    differences: tuple[Difference, ...]
    crossing: Crossing


def compare(
    first: Law, second: Law, at_flops: Sequence[float] = (), *, tokens_per_param: float | None = None
) -> Comparison:
    """Return how two laws differ along D = `tokens_per_param` N, and where they cross.

    The difference is between the laws, not between two single runs: it counts how sure each law is by its refits, taken
    in pairs as independent, and not the seed noise of a run to come.

    Args:
        first: What is compared with.
        second: Of the same convention, unit and evaluation set.
        at_flops: Compute, C = 6 N D; none takes 1, 10 and 100 times the dearest row.
        tokens_per_param: None takes the median of all rows.

    Raises:
        ConventionError: The laws count or measure in different ways.
        UsageError: A law needs more than N and D, or a compute is not positive.
    """
    _check_alike(first, second)
    rows = [*first.rows, *second.rows]
    sizes = np.array([row.num_params.by(first.convention) for row in rows], dtype=np.float64)
    tokens = np.array([row.num_tokens for row in rows])
    ratio = tokens_per_param or float(np.median(tokens / sizes))
    spent = rule_of_thumb_flops(1.0, 1.0) * sizes * tokens
    scales = np.array(at_flops or [float(spent.max()) * factor for factor in (1, 10, 100)])
    if not (np.isfinite(scales) & (scales > 0)).all():
        raise UsageError(
            "A compute budget must be a positive number.", got=float(scales.min()), hint="--at-flops 1e21"
        )
    return Comparison(
        ratio,
        tuple(_difference(first, second, flops, ratio) for flops in scales.tolist()),
        _crossing(first, second, float(spent.min()), float(spent.max()) * 10**_DECADES_BEYOND, ratio),
    )


def _check_alike(first: Law, second: Law) -> None:
    for name in ("convention", "loss_unit", "eval_hash"):
        ours, theirs = getattr(first, name), getattr(second, name)
        if ours != theirs:
            raise ConventionError(
                f"Two laws are compared on the same losses; these differ in {name}: {ours!r} and {theirs!r}."
            )
    for law in (first, second):
        if not set(law.shape.inputs) <= {"N", "D", "C"}:
            raise UsageError(
                f"Laws are compared over N and D; this one is of form {law.form!r}.", hint="--form chinchilla"
            )


def _losses(law: Law, coefficients_BK: Array, flops: Array, ratio: float) -> Array:
    """Return the loss of each coefficient vector along the path [B, P]."""
    sizes = np.sqrt(flops / (rule_of_thumb_flops(1.0, 1.0) * ratio))
    return law.shape.value(coefficients_BK, points_at(law.shape, sizes, ratio * sizes))


def _pairs(first: Law, second: Law) -> tuple[Array, Array]:
    """Return as many refits of each, the second's in another order.

    Two laws fitted with one seed drew the same random numbers: paired as they come, their errors would cancel.
    """
    count = min(len(first.refits), len(second.refits))
    order = np.random.default_rng(_SHUFFLE).permutation(len(second.refits))
    return first.refits[:count], second.refits[order[:count]]


def _difference(first: Law, second: Law, flops: float, ratio: float) -> Difference:
    at = np.array([flops])
    ours, theirs = _pairs(first, second)
    drawn = (_losses(second, theirs, at, ratio) - _losses(first, ours, at, ratio))[:, 0]
    first_loss = float(_losses(first, first.point, at, ratio)[0, 0])
    second_loss = float(_losses(second, second.point, at, ratio)[0, 0])
    intervals = intervals_of(drawn)
    size = math.sqrt(flops / (rule_of_thumb_flops(1.0, 1.0) * ratio))
    return Difference(
        flops=flops,
        num_params=size,
        num_tokens=ratio * size,
        first_loss=first_loss,
        second_loss=second_loss,
        difference=second_loss - first_loss,
        interval_80=intervals["80"],
        interval_95=intervals["95"],
        second_is_lower_frac=float((drawn < 0).mean()),
    )


def _crossing(first: Law, second: Law, low: float, high: float, ratio: float) -> Crossing:
    log_c = np.linspace(math.log(low), math.log(high), _NUM_SCANNED)
    flops = np.exp(log_c)
    point = _losses(second, second.point, flops, ratio) - _losses(first, first.point, flops, ratio)
    ours, theirs = _pairs(first, second)
    drawn = _last_crossings(log_c, _losses(second, theirs, flops, ratio) - _losses(first, ours, flops, ratio))
    found = drawn[np.isfinite(drawn)]
    by_point = float(_last_crossings(log_c, point)[0])
    return Crossing(
        flops=math.exp(by_point) if math.isfinite(by_point) else None,
        interval_80=intervals_of(np.exp(found))["80"] if len(found) >= _MOST_CROSS * len(drawn) else None,
        crosses_frac=len(found) / len(drawn),
        low_flops=low,
        high_flops=high,
    )


def _last_crossings(x: Array, difference_BP: Array) -> Array:
    """Return where each curve changes its sign for the last time, by a straight line between points; NaN where nowhere.

    Example:
        >>> _last_crossings(np.array([0.0, 1.0, 2.0]), np.array([[1.0, 1.0, -3.0], [1.0, 2.0, 3.0]])).tolist()
        [1.25, nan]
    """
    left, right = difference_BP[:, :-1], difference_BP[:, 1:]
    changes = (left < 0) != (right < 0)
    last = changes.shape[1] - 1 - changes[:, ::-1].argmax(axis=1)
    rows = np.arange(len(difference_BP))
    start, end = left[rows, last], right[rows, last]
    with np.errstate(divide="ignore", invalid="ignore"):
        part = start / (start - end)
    found: Array = np.where(changes.any(axis=1), x[last] + part * (x[last + 1] - x[last]), np.nan)
    return found
