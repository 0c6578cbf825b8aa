"""Short sequences first: the sequences of a step are cut into pieces.

Shapes: B sequences, T tokens of each, P pieces of t tokens.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kleiber.data import Batch

__all__ = ["cut"]


def cut(batch: Batch, context: int) -> Batch:
    """Return the same tokens in pieces of `context`, each with the token after it as its last target: [P, t + 1] of [B, T + 1].

    Where to go on in the data is what it was.

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
