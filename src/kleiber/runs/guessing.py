"""The loss of guessing: what tells a run that diverged, or a loss in another unit."""

from __future__ import annotations

import math

__all__ = ["is_above_guessing"]

_GUESSING_FRAC = 1.01
"""Of ln V: what a run that learnt nothing may be above it."""


def is_above_guessing(loss: float, vocab_size: float) -> bool:
    """Return whether a loss [nats/token] is above ln V, that of guessing among V tokens.

    Example:
        >>> is_above_guessing(7.1, 1024), is_above_guessing(6.94, 1024)  # ln 1024 = 6.931
        (True, False)
    """
    return loss > _GUESSING_FRAC * math.log(vocab_size)
