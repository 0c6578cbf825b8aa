"""Spikes of the training loss: steps that stand far above those before them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["SPIKE_DEVIATIONS", "SPIKE_WINDOW", "count_spikes"]

SPIKE_WINDOW = 32
"""Steps before, that a step is compared with."""
SPIKE_DEVIATIONS = 6.0
"""Robust standard deviations above their median that make a spike."""
_NORMAL = 1.4826
"""Of the median absolute deviation of normal values to their standard deviation."""


def count_spikes(losses: Sequence[float]) -> tuple[int, int]:
    """Return the spikes among the losses of single steps, and the steps that could have been one.

    Example:
        >>> calm = [2.0, 2.1] * 40
        >>> count_spikes(calm), count_spikes([*calm[:60], 9.0, *calm[60:]])
        ((0, 48), (1, 49))
    """
    if len(losses) <= SPIKE_WINDOW:
        return 0, 0
    values = np.asarray(losses, dtype=np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(values[:-1], SPIKE_WINDOW)
    median = np.median(windows, axis=1)
    deviation = _NORMAL * np.median(np.abs(windows - median[:, None]), axis=1)
    above = values[SPIKE_WINDOW:] - median > SPIKE_DEVIATIONS * deviation
    return int(above.sum()), len(above)
