"""Short sequences first: how long the pieces of a step are, and how its sequences are cut.

Shapes: B sequences, T tokens of each, P pieces of t tokens.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kleiber.data import Batch
from kleiber.runs import SequenceWarmup

__all__ = ["context_of_step", "cut"]


def context_of_step(step: int, context: int, warmup: SequenceWarmup | None) -> int:
    """Return the tokens that a step's pieces have.

    Args:
        step: Number of the step, from 0.
        context: Of whole sequences.
        warmup: How they grow; None are whole sequences throughout.

    Example:
        >>> warmup = SequenceWarmup(context=64, steps=4)
        >>> [context_of_step(step, 256, warmup) for step in range(5)]
        [64, 64, 128, 128, 256]
    """
    if warmup is None or step >= warmup.steps:
        return context
    num_doublings = (context // warmup.context).bit_length() - 1
    return warmup.context << step * num_doublings // warmup.steps


def cut(batch: Batch, context: int) -> Batch:
    """Return the same tokens in pieces of `context`, each with the token after it as its last target: [P, t + 1] of [B, T + 1].

    Example:
        >>> cut(Batch({"tokens": np.arange(5)[None]}, cursor=1), 2).tokens.tolist()
        [[0, 1, 2], [2, 3, 4]]
    """
    tokens = batch.tokens
    if tokens.shape[1] - 1 == context:
        return batch
    starts = np.arange(0, tokens.shape[1] - 1, context)
    pieces = tokens[:, starts[:, None] + np.arange(context + 1)]
    return replace(batch, arrays={"tokens": pieces.reshape(-1, context + 1)})
