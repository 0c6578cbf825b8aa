"""The loss of guessing: what tells a run that learnt, one that diverged, and a loss in another unit."""

from __future__ import annotations

import math

from kleiber.runs.recipe import Recipe

__all__ = ["guessing_loss", "has_learnt", "is_above_guessing"]

_LEARNT_FRAC = 0.98
"""Of the loss of guessing, that one has to lie below: less is noise of the batches."""
_DIVERGED_FRAC = 1.01
"""Of it, that a run which learnt nothing may reach."""


def guessing_loss(recipe: Recipe) -> float | None:
    """Return the cross-entropy of guessing evenly among classes or tokens [nats]; None of tasks that have no such loss.

    Args:
        recipe: With the shape of its data.

    Example:
        >>> recipe = Recipe().with_values(["data.vocab_size=512"])
        >>> round(guessing_loss(recipe), 3)
        6.238
    """
    shape = recipe.data.shape
    size: int | None = None
    if recipe.task.name == "lm":
        size = shape.vocab_size if shape is not None and shape.vocab_size else recipe.data.vocab_size
    elif recipe.task.minimized == "cross_entropy" and shape is not None:
        size = shape.num_outputs
    return math.log(size) if size and size > 1 else None


def has_learnt(loss: float, guessing: float | None) -> bool:
    """Return whether a loss lies below that of guessing by a margin of 2% of it; True where nothing is known of guessing.

    Example:
        >>> has_learnt(2.3053, math.log(10)), has_learnt(2.2, math.log(10)), has_learnt(2.2, None)
        (False, True, True)
    """
    return guessing is None or loss < _LEARNT_FRAC * guessing


def is_above_guessing(loss: float, vocab_size: float) -> bool:
    """Return whether a loss [nats/token] is above ln V, that of guessing among V tokens, by more than 1% of it.

    Example:
        >>> is_above_guessing(7.1, 1024), is_above_guessing(6.94, 1024)  # ln 1024 = 6.931
        (True, False)
    """
    return loss > _DIVERGED_FRAC * math.log(vocab_size)
