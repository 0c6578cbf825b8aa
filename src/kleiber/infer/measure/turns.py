"""Timing several things on a machine that is never quite the same twice: in turns, again and again."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from kleiber.infer.measure.work import Turn

__all__ = ["in_turns", "num_calls_for", "rounds_of", "saturation_batch"]

Taken = TypeVar("Taken")

_PAUSE_S = 0.005
"""Between turns: threads of one engine that wait for work in a loop would take the next one's cores."""


def in_turns(
    turns: Mapping[str, Callable[[], float]], num_rounds: int, *, seed: int = 0
) -> dict[str, npt.NDArray[np.float64]]:
    """Return the seconds of each in each round, [num_rounds]; every round has another order.

    Args:
        turns: Each returns the seconds that it measured.
        num_rounds: Of each.
        seed: Of the orders.

    Example:
        >>> in_turns({"a": lambda: 1.0, "b": lambda: 2.0}, 2)
        {'a': array([1., 1.]), 'b': array([2., 2.])}
    """
    return {name: np.array(times_s) for name, times_s in rounds_of(turns, num_rounds, seed=seed).items()}


def rounds_of(
    turns: Mapping[str, Callable[[], Taken]],
    num_rounds: int,
    *,
    seed: int = 0,
    on_turn: Callable[[str], object] = lambda _: None,
) -> dict[str, list[Taken]]:
    """Return what each turn measured in each round; every round has another order.

    Args:
        turns: Each returns what it measured.
        num_rounds: Of each.
        seed: Of the orders.
        on_turn: Is told the name of each before it begins.
    """
    taken: dict[str, list[Taken]] = {name: [] for name in turns}
    random, names = np.random.default_rng(seed), list(turns)
    for _ in range(num_rounds):
        for place in random.permutation(len(names)):
            name = names[place]
            on_turn(name)
            time.sleep(_PAUSE_S)
            taken[name].append(turns[name]())
    return taken


def num_calls_for(turn: Turn, block_s: float, max_calls: int) -> int:
    """Return how many calls make a block of about `block_s` seconds, at least one."""
    turn(1)  # what is made at the first call
    return max(1, min(max_calls, math.ceil(block_s / max(turn(1), 1e-9))))


def saturation_batch(seconds_of: Callable[[int], float], max_batch: int, *, min_gain: float = 0.05) -> int:
    """Return the batch from which on twice as many samples at once gain less than `min_gain` in samples a second.

    Twice in a row: engines change their kernels at some small batch, and the machine may have been busy once.

    Args:
        seconds_of: Seconds of a call on so many samples.
        max_batch: No batch is larger.
        min_gain: Least gain for which the batch is doubled.

    Example:
        >>> saturation_batch(lambda batch: 1.0 + max(0, batch - 4), 64)  # the fifth sample costs as much as the first four
        4
    """
    best, rate = 1, 1 / seconds_of(1)
    batch = 2
    while batch <= min(max_batch, 4 * best):
        found = batch / seconds_of(batch)
        if found >= rate * (1 + min_gain) ** math.log2(batch / best):
            best, rate = batch, found
        batch *= 2
    return best
