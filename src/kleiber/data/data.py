"""What every kind of data offers the rooms above."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from kleiber.data.batches import Batch
from kleiber.runs.record import DataMeta

__all__ = ["Data", "Samples", "Split"]

Split = Literal["train", "val", "test"]


class Data(Protocol):
    """Samples in batches, each a pure function of the seed and the cursor before it."""

    @property
    def meta(self) -> DataMeta:
        """Which data, exactly."""
        ...

    @property
    def seed(self) -> int:
        """Of the order of the training samples."""
        ...

    @property
    def tokenizer_path(self) -> Path | None:
        """Of the tokenizer's `tokenizer.json`; None where there is no text."""
        ...

    def batches(self, split: Split, cursor: int, batch_size: int) -> Iterator[Batch]:
        """Return batches from `cursor` on: without end for train, one pass in a fixed order for the others.

        Raises:
            RecipeError: The cursor is negative or the batch size is not positive.
        """
        ...


class Samples(Protocol):
    """The samples of one split, read when they are asked for."""

    def __len__(self) -> int:
        """Return how many there are."""
        ...

    def gather(self, indices: npt.NDArray[np.intp]) -> dict[str, npt.NDArray[Any]]:
        """Return arrays [B, ...] by role, as `Batch.arrays` names them, before normalization and augmentation."""
        ...
