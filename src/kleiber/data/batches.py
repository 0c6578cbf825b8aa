"""Packed sequences in a deterministic order, addressed by a cursor.

Shapes: B sequences of a batch, T context.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "Batch",
    "num_sequences",
    "ordered_batches",
    "sequence_order",
    "shuffled_batches",
    "shuffled_indices",
]

Tokens = npt.NDArray[np.unsignedinteger]


@dataclass(frozen=True)
class Batch:
    """Samples to learn from or to be measured on, with shape [B, ...] each."""

    arrays: Mapping[str, npt.NDArray[Any]]
    """By role. What goes in: `tokens` [B, T] int64 (of language modelling [B, T + 1]: inputs are all but the last, targets all
    but the first), `images` [B, C, H, W] float32, `features` [B, F] float32, `series` [B, T, F] float32, `source` and
    `target` [B, T] int64. What is asked: `labels` [B] int64 (mixed ones [B, K] float32), `values` [B, K] float32."""
    cursor: int
    """Samples consumed once this batch is: where to go on."""

    def __len__(self) -> int:
        """Return B."""
        return len(next(iter(self.arrays.values())))

    @property
    def tokens(self) -> npt.NDArray[np.int64]:
        """The token ids."""
        return self.arrays["tokens"]


def num_sequences(num_tokens: int, context: int) -> int:
    """Return how many sequences of `context` targets fit; neighbours share one token.

    Example:
        >>> num_sequences(257, 128), num_sequences(256, 128)
        (2, 1)
    """
    return max(0, num_tokens - 1) // context


def sequence_order(num: int, seed: int, epoch: int) -> npt.NDArray[np.intp]:
    """Return the order of `num` sequences in an epoch.

    Sorts raw Philox numbers keyed by seed and epoch: NumPy keeps that stream the same for good, which it
    does not promise of `Generator.permutation`.

    Example:
        >>> sequence_order(5, seed=0, epoch=0).tolist()
        [0, 2, 1, 4, 3]
    """
    key = np.array([seed, epoch], np.uint64)
    return np.argsort(np.random.Philox(key=key).random_raw(num), kind="stable")


def shuffled_batches(
    tokens: Tokens, *, context: int, seed: int, cursor: int, batch_size: int
) -> Iterator[Batch]:
    """Yield batches without end: epoch after epoch, each in its own order.

    A batch is a pure function of the tokens, `seed` and the cursor before it, so a run that starts at a saved
    cursor sees what an uninterrupted one would have seen.

    Args:
        tokens: The packed train split [num_tokens].
        context: T.
        seed: Of the order.
        cursor: Sequences consumed so far, over all epochs.
        batch_size: B.
    """
    num = num_sequences(len(tokens), context)
    for chosen, after in shuffled_indices(num, seed=seed, cursor=cursor, batch_size=batch_size):
        yield Batch({"tokens": _gather(tokens, chosen * context, context)}, after)


def shuffled_indices(
    num: int, *, seed: int, cursor: int, batch_size: int
) -> Iterator[tuple[npt.NDArray[np.intp], int]]:
    """Yield the samples of a batch and the cursor after it, without end, as `shuffled_batches` takes them.

    Args:
        num: Samples of an epoch.
        seed: Of the order.
        cursor: Samples consumed so far, over all epochs.
        batch_size: B.

    Example:
        >>> order = shuffled_indices(5, seed=0, cursor=3, batch_size=3)
        >>> [(chosen.tolist(), cursor) for chosen, cursor in [next(order)]]
        [([4, 3, 3], 6)]
    """
    epoch, order = -1, np.empty(0, np.intp)
    while True:
        chosen: list[npt.NDArray[np.intp]] = []
        missing = batch_size
        while missing:
            if cursor // num != epoch:
                epoch = cursor // num
                order = sequence_order(num, seed, epoch)
            start = cursor % num
            chosen.append(order[start : start + missing])
            cursor += len(chosen[-1])
            missing -= len(chosen[-1])
        yield np.concatenate(chosen), cursor


def ordered_batches(
    tokens: Tokens, starts: npt.NDArray[np.intp], *, context: int, cursor: int, batch_size: int
) -> Iterator[Batch]:
    """Yield the sequences that begin at `starts` once, in that order; the last batch may be smaller."""
    while cursor < len(starts):
        chosen = starts[cursor : cursor + batch_size]
        cursor += len(chosen)
        yield Batch({"tokens": _gather(tokens, chosen, context)}, cursor)


def _gather(tokens: Tokens, starts: npt.NDArray[np.intp], context: int) -> npt.NDArray[np.int64]:
    positions = starts[:, None] + np.arange(context + 1)
    gathered: npt.NDArray[np.int64] = np.asarray(tokens)[positions].astype(np.int64)
    return gathered
