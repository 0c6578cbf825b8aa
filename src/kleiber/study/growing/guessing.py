"""Whether a size has learnt anything: its loss against that of guessing."""

from __future__ import annotations

import math

from kleiber.runs import Recipe

__all__ = ["guessing_loss", "has_learnt"]

_MARGIN_FRAC = 0.02
"""Of the loss of guessing, that a loss has to lie below it: less is noise of the batches."""


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
    return guessing is None or loss < (1 - _MARGIN_FRAC) * guessing
