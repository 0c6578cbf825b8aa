"""Which of several choices each layer gets, so that the error is least within a budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kleiber.models.stored.grid import Grid
from kleiber.models.stored.packing import num_words

__all__ = ["Choice", "least_error", "weight_bytes"]

_MAX_FRONT = 20_000
"""Combinations that are carried on; beyond them the best of each of so many equal parts of the budget."""
_WORD_BYTES, _SCALE_BYTES = 4, 2


@dataclass(frozen=True)
class Choice:
    """One way to treat a layer."""

    cost: float
    """In the unit of the budget."""
    error: float
    """Errors of layers add up."""


def least_error(layers: Sequence[Sequence[Choice]], budget: float) -> list[int] | None:
    """Return the number of the choice for each layer that together cost at most `budget` and err least; None if all cost more.

    Exact as long as no more than 20,000 combinations are worth their cost at a time (layers of a few different sizes);
    else within the budget all the same, and off by one part of it in 20,000 a layer at most.

    Example:
        >>> few_or_many = [Choice(2, 9.0), Choice(4, 1.0)]
        >>> least_error([few_or_many, [Choice(2, 5.0), Choice(4, 1.0)]], budget=6)
        [1, 0]
    """
    # The least that the layers after each one cost: what leaves less than that is no beginning.
    least = [min(choice.cost for choice in choices) for choices in layers]
    remaining = np.concatenate((np.cumsum(least[::-1])[::-1][1:], [0.0]))
    costs, errors = np.zeros(1), np.zeros(1)
    steps: list[tuple[npt.NDArray[np.intp], int]] = []
    for choices, rest in zip(layers, remaining, strict=True):
        all_costs = np.add.outer(costs, [choice.cost for choice in choices]).ravel()
        all_errors = np.add.outer(errors, [choice.error for choice in choices]).ravel()
        kept = _front(all_costs, all_errors, budget - rest, budget / _MAX_FRONT)
        if not len(kept):
            return None
        costs, errors = all_costs[kept], all_errors[kept]
        steps.append((kept, len(choices)))
    return _choices_of(steps)


def weight_bytes(num_rows: int, num_columns: int, grid: Grid) -> int:
    """Return the bytes of a quantized weight in a file: codes in whole words a row, scales in fp16, zeros if it has any.

    Example:
        >>> weight_bytes(4, 128, Grid(4, group_size=64)), weight_bytes(4, 128, Grid(4, 64, is_symmetric=False))
        (272, 276)
    """
    num_groups = num_rows * grid.num_groups(num_columns)
    zeros = 0 if grid.is_symmetric else -(-num_groups * grid.num_bits // 8)
    return num_rows * num_words(num_columns, grid.num_bits) * _WORD_BYTES + num_groups * _SCALE_BYTES + zeros


def _front(
    costs: npt.NDArray[np.float64], errors: npt.NDArray[np.float64], most: float, part: float
) -> npt.NDArray[np.intp]:
    """Return the combinations that cost at most `most` and err less than all that cost no more, by rising cost."""
    order = np.lexsort((errors, costs))
    order = order[costs[order] <= most * (1 + 1e-12)]
    best_before = np.minimum.accumulate(np.concatenate(([np.inf], errors[order])))[:-1]
    order = order[errors[order] < best_before]
    if len(order) > _MAX_FRONT:
        parts = costs[order] // part
        order = order[np.append(parts[1:] != parts[:-1], True)]  # the last of a part errs least
    return order


def _choices_of(steps: Sequence[tuple[npt.NDArray[np.intp], int]]) -> list[int]:
    """Return the way back from the last combination, which costs most and errs least."""
    chosen: list[int] = []
    place = len(steps[-1][0]) - 1
    for kept, num_choices in reversed(steps):
        place, choice = divmod(int(kept[place]), num_choices)
        chosen.append(choice)
    return chosen[::-1]
