"""Routes beside each other: which is cheapest in how many draws, and at how many served tokens two cost the same.

Shapes: B draws, R routes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from kleiber.scaling.forms import Array
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
    with np.errstate(invalid="ignore"):
        served_B = _served(first_B - other_B, other_token_B - first_token_B, is_below=slope < 0)
    is_met_B = np.isfinite(served_B) & (served_B > 0)
    none_frac = 1 - float(np.mean(is_met_B))
    if not (math.isfinite(point) and point > 0):
        return BreakEven(**titles, first_wins="always", served_tokens=None, none_frac=none_frac)
    known_B = served_B[~np.isnan(served_B)]
    return BreakEven(
        **titles,
        first_wins="above" if slope > 0 else "below",
        served_tokens=amount_of(point, known_B) if len(known_B) else Amount(value=point),
        none_frac=none_frac,
    )


def _served(gap_B: Array, slope_B: Array, *, is_below: bool) -> Array:
    """Return the served tokens at which both cost the same in each draw [B].

    Where one of them always costs less that is 0 or infinity, as if the other had to wait so long; NaN where the two change
    places the other way round.

    Args:
        gap_B: What the first takes more to train.
        slope_B: What the other takes more to serve a token.
        is_below: Whether the first is the one that costs less below that number.
    """
    sign = -1.0 if is_below else 1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        met_B = gap_B / slope_B
    same_way_B = np.where(met_B > 0, met_B, 0.0)
    other_way_B = np.where(sign * gap_B >= 0, np.inf, np.nan)
    found: Array = np.where(sign * slope_B > 0, same_way_B, other_way_B)
    return np.where(np.isnan(gap_B), np.nan, found)


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
