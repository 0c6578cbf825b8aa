"""The first samples of a split: as much as a quality with a paired interval needs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kleiber.data import Batch, Data, Split
from kleiber.runs import DataMeta

__all__ = ["FirstSamples"]


class FirstSamples:
    """Data whose splits end after so many samples.

    Args:
        data: All of it.
        num: Samples; sequences of a text.
    """

    def __init__(self, data: Data, num: int) -> None:
        self._data, self._num = data, num

    @property
    def meta(self) -> DataMeta:
        """Which data, with the number of samples that are left."""
        meta = self._data.meta
        scale = meta.shape.context or 1 if meta.unit == "token" else 1
        most = self._num * scale
        return meta.model_copy(
            update={
                "num_val_tokens": min(meta.num_val_tokens, most),
                "num_test_tokens": min(meta.num_test_tokens, most),
            }
        )

    @property
    def seed(self) -> int:
        """Of the order of the training samples."""
        return self._data.seed

    @property
    def tokenizer_path(self) -> Path | None:
        """Of the tokenizer's `tokenizer.json`; None where there is no text."""
        return self._data.tokenizer_path

    def batches(self, split: Split, cursor: int, batch_size: int) -> Iterator[Batch]:
        """Return batches from `cursor` on, up to the last sample that is left.

        Raises:
            RecipeError: The cursor is negative or the batch size is not positive.
        """
        for batch in self._data.batches(split, cursor, batch_size):
            over = batch.cursor - self._num
            if over < 0:
                yield batch
                continue
            kept = len(batch) - over
            if kept > 0:
                arrays = {role: array[:kept] for role, array in batch.arrays.items()}
                yield Batch(arrays, cursor=self._num)
            return
