"""Routes beside each other: which is cheapest in how many draws, and at how many served tokens two cost the same.

Shapes: B draws, R routes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from kleiber.study.advice.document import Amount, BreakEven, Elsewhere
from kleiber.study.advice.drawn import Drawn, amount_of
from kleiber.study.advice.meter import Meter
from kleiber.study.advice.search import Search
from kleiber.study.advice.ways import Way

__all__ = ["break_even", "cheapest_fracs", "elsewhere"]

_FACTORS = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1e3)
_FROM_NOTHING = (1e9, 1e10, 1e11, 1e12, 1e13)
"""Served tokens that are looked at where none were asked for."""


def cheapest_fracs(routes: Sequence[Drawn], served_tokens: float, meter: Meter) -> tuple[float, ...]:
    """Return for each route the part of the draws in which no other costs less; a draw that none reaches is nobody's."""
    totals = []
    for one in routes:
        train_B, serve_B = one.amounts(meter)
        totals.append(train_B + served_tokens * serve_B)
    total_RB = np.stack(totals)
    best_B = np.where(np.isfinite(total_RB.min(axis=0)), total_RB.argmin(axis=0), -1)
    return tuple(float(np.mean(best_B == k)) for k in range(len(routes)))


def break_even(first: Drawn, other: Drawn, meter: Meter) -> BreakEven:
    """Return how many served tokens make two routes cost the same, their sizes as they are.

    Args:
        first: That costs less for the tokens that were asked about.
        other: That costs more.
        meter: Of the ranking.
    """
    gap = first.plan.trained_tokens * first.plan.train_amount
    gap -= other.plan.trained_tokens * other.plan.train_amount
    slope = other.plan.serve_amount - first.plan.serve_amount
    titles = {"first": first.plan.way.title, "other": other.plan.way.title}
    # Over so many tokens the other has made up by serving, or lost, what it saves or takes more in training.
    point = gap / slope if slope else math.inf
    (first_B, first_token_B), (other_B, other_token_B) = first.amounts(meter), other.amounts(meter)
    with np.errstate(divide="ignore", invalid="ignore"):
        served_B = (first_B - other_B) / (other_token_B - first_token_B)
    is_met_B = np.isfinite(served_B) & (served_B > 0)
    none_frac = 1 - float(np.mean(is_met_B))
    if not (math.isfinite(point) and point > 0):
        return BreakEven(**titles, first_wins="always", served_tokens=None, none_frac=none_frac)
    return BreakEven(
        **titles,
        first_wins="above" if slope > 0 else "below",
        served_tokens=amount_of(point, served_B[is_met_B]) if is_met_B.any() else Amount(value=point),
        none_frac=none_frac,
    )


def elsewhere(search: Search, ways: Sequence[Way], loss: float, served_tokens: float) -> Iterator[Elsewhere]:
    """Yield the cheapest route for fewer and for more served tokens, its size sought anew.

    Args:
        search: Of sizes.
        ways: The routes.
        loss: Of what is served.
        served_tokens: That were asked about.
    """
    numbers = [served_tokens * factor for factor in _FACTORS] if served_tokens else _FROM_NOTHING
    for number in numbers:
        found = [(*best, way.title) for way in ways if (best := search.sought(way, loss, number)) is not None]
        if found:
            size, total, title = min(found, key=lambda one: one[1])
            yield Elsewhere(served_tokens=number, title=title, num_params=size, total=total)
