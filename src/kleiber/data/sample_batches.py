"""From indices to a batch: gathered, normalized, augmented."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kleiber.data.augment import augment
from kleiber.data.batches import Batch
from kleiber.data.normalization import Normalization
from kleiber.data.source import Part
from kleiber.runs import AugmentRecipe

__all__ = ["Preparation", "indices_in_order"]


@dataclass(frozen=True)
class Preparation:
    """Makes batches of one split; a pure function, in whichever process."""

    part: Part
    normalizations: Mapping[str, Normalization]
    """By role."""
    augmentations: tuple[AugmentRecipe, ...]
    seed: int
    """Of augmentation."""
    num_outputs: int | None
    """Classes, or values to predict."""

    def __call__(self, indices: npt.NDArray[np.intp], after: int) -> Batch:
        """Return the batch of these samples.

        Args:
            indices: Of the samples in the split [B].
            after: Samples consumed once this batch is.
        """
        arrays: dict[str, npt.NDArray[Any]] = self.part.samples.gather(indices)
        for role, normalization in self.normalizations.items():
            arrays[role] = normalization.apply(arrays[role])
        if self.part.labels is not None:
            arrays["labels"] = self.part.labels[indices]
        if self.part.values is not None:
            arrays["values"] = self.part.values[indices]
        if self.augmentations:
            before = after - len(indices)
            arrays = augment(
                arrays, self.augmentations, seed=self.seed, cursor=before, num_outputs=self.num_outputs
            )
        return Batch(arrays, after)


def indices_in_order(num: int, cursor: int, batch_size: int) -> Iterator[tuple[npt.NDArray[np.intp], int]]:
    """Yield the samples of a batch and the cursor after it, one pass; the last batch may be smaller.

    Example:
        >>> [(chosen.tolist(), after) for chosen, after in indices_in_order(5, cursor=1, batch_size=3)]
        [([1, 2, 3], 4), ([4], 5)]
    """
    for start in range(cursor, num, batch_size):
        end = min(start + batch_size, num)
        yield np.arange(start, end), end
