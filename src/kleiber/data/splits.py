"""Which samples are held out: a pure function of how many there are and of their labels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kleiber.data.batches import sequence_order

__all__ = ["fixed_order", "held_out"]

_SEED = 0
"""Of every split: a run's seed must not change what it is measured on."""


def fixed_order(num: int, *, stream: int) -> npt.NDArray[np.intp]:
    """Return `num` indices in an order that never changes; each `stream` has its own."""
    return sequence_order(num, _SEED, stream)


def held_out(
    num: int, frac: float, *, labels: npt.NDArray[np.int64] | None = None, stream: int = 0
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the indices that stay and those that are held out, each ascending.

    Of every class the nearest whole number to `frac` is held out, at least one and never all; without labels, of all samples.

    Args:
        num: Samples, at least 2; 2 of each class that occurs.
        frac: Between 0 and 1.
        labels: Classes [num].
        stream: Splits of one source take different ones.

    Example:
        >>> stay, held = held_out(10, 0.2, labels=np.array([0, 1] * 5))
        >>> len(stay), sorted((held % 2).tolist())
        (8, [0, 1])
    """
    order = fixed_order(num, stream=stream)
    is_held = np.zeros(num, bool)
    groups = [order] if labels is None else [order[labels[order] == label] for label in np.unique(labels)]
    for group in groups:
        is_held[group[: min(max(1, round(frac * len(group))), len(group) - 1)]] = True
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)
