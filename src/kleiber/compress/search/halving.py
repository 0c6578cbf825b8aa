"""Successive halving: many short recoveries, then fewer longer ones; and the front of what came out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kleiber.runs.receipt import Tried

__all__ = ["Rung", "marked_front", "rungs_of"]

_ETA = 3
"""One of so many goes on."""


@dataclass(frozen=True)
class Rung:
    """How many are tried, and for how long each."""

    num: int
    num_tokens: float


def rungs_of(num: int, num_finalists: int, budget_tokens: float) -> tuple[Rung, ...]:
    """Return the rungs: each takes an equal part of the budget, a third of its pipelines go on, the last has the finalists.

    Source:
        Jamieson and Talwalkar 2016, arXiv:1502.07943, algorithm 1.

    Example:
        >>> rungs_of(9, 1, 900)
        (Rung(num=9, num_tokens=33.333333333333336), Rung(num=3, num_tokens=100.0), Rung(num=1, num_tokens=300.0))
    """
    nums = [num]
    while nums[-1] > num_finalists:
        nums.append(max(num_finalists, nums[-1] // _ETA))
    return tuple(Rung(one, budget_tokens / len(nums) / one) for one in nums)


def marked_front(tried: Sequence[Tried]) -> tuple[Tried, ...]:
    """Return what was tried, marked where nothing else is as good in everything and better in something."""
    keys = [_costs(one) for one in tried]
    return tuple(
        one.model_copy(update={"is_on_front": not any(_dominates(other, key) for other in keys)})
        for one, key in zip(tried, keys, strict=True)
    )


def _costs(one: Tried) -> tuple[float, ...]:
    return one.quality_loss, float(one.stored_bytes), one.latency_s or 0.0


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))
