"""What an opener of samples returns: splits as the source gives them, before anything is fitted to them.

An opener is `open_x(recipe, task, argument, *, cache, on_progress) -> Source`; `argument` is what stood after the colon of
`data.source`. It reads, decodes and encodes. The front door (`kleiber.data.sample_data`) does what is the same for all: it
carves out what is held out where `val` is None, thins out, removes copies, selects, normalizes, checks labels and counts.

Shapes: N samples of a part, B samples asked for, K values to predict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from kleiber.data.corpus import Progress
from kleiber.data.data import Samples
from kleiber.runs import DataShape, TaskRecipe
from kleiber.runs.recipe import DataRecipe

__all__ = ["ArraySamples", "Opener", "Part", "Source", "SubsetSamples"]


@dataclass(frozen=True)
class ArraySamples:
    """Samples that stand in arrays, in memory or mapped from a file.

    Example:
        >>> samples = ArraySamples({"features": np.arange(6.0).reshape(3, 2)})
        >>> len(samples), samples.gather(np.array([2, 0]))["features"].tolist()
        (3, [[4.0, 5.0], [0.0, 1.0]])
    """

    arrays: Mapping[str, npt.NDArray[Any]]
    """By role of what goes in, [N, ...] each; images may stay uint8 [N, C, H, W] until they are gathered."""

    def __len__(self) -> int:
        """Return N."""
        return len(next(iter(self.arrays.values())))

    def gather(self, indices: npt.NDArray[np.intp]) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays [B, ...] of these samples."""
        return {role: np.asarray(array[indices]) for role, array in self.arrays.items()}


@dataclass(frozen=True)
class SubsetSamples:
    """Some samples of others, in an order of their own."""

    whole: Samples
    indices: npt.NDArray[np.intp]

    def __len__(self) -> int:
        """Return N."""
        return len(self.indices)

    def gather(self, indices: npt.NDArray[np.intp]) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays [B, ...] of these samples."""
        return self.whole.gather(self.indices[indices])


@dataclass(frozen=True)
class Part:
    """One split: what goes in, read when asked for; what is asked of each, in memory."""

    samples: Samples
    """Gather the roles that go in, without `labels` and `values`."""
    labels: npt.NDArray[np.int64] | None = None
    """Classes [N]."""
    values: npt.NDArray[np.float32] | None = None
    """What to predict [N, K], as the source says it: standardized by the task, not here."""
    lengths: npt.NDArray[np.int64] | None = None
    """Of texts [N], for `data.selection` shortest and longest."""
    groups: npt.NDArray[np.int64] | None = None
    """Near-duplicates [N]: samples with one number, in any split, are near-copies of each other. None where the source has no
    way of its own to tell; images need none."""

    def __len__(self) -> int:
        """Return N."""
        return len(self.samples)

    def take(self, indices: npt.NDArray[np.intp]) -> Part:
        """Return these samples in this order.

        Example:
            >>> part = Part(ArraySamples({"features": np.eye(3)}), labels=np.array([5, 6, 7]))
            >>> part.take(np.array([2, 1])).labels.tolist()
            [7, 6]
        """
        if isinstance(self.samples, SubsetSamples):  # one step of indirection, however often it is narrowed
            samples = SubsetSamples(self.samples.whole, self.samples.indices[indices])
        else:
            samples = SubsetSamples(self.samples, np.asarray(indices, np.intp))
        rows = {name: getattr(self, name) for name in ("labels", "values", "lengths", "groups")}
        return replace(
            self,
            samples=samples,
            **{name: array[indices] for name, array in rows.items() if array is not None},
        )


@dataclass(frozen=True)
class Source:
    """What was found."""

    shape: DataShape
    """`num_outputs` too: the classes, or K."""
    train: Part
    val: Part | None = None
    """None: the front door carves it out of train, stratified by label, by `data.val_frac`."""
    test: Part | None = None
    """The official one; None: there is none, and `data.test_frac` of train is carved out when it is above 0."""
    is_carved: bool = False
    """Whether the opener itself held out `data.val_frac` and `data.test_frac`, as only it knows how to."""
    classes: tuple[str, ...] = ()
    """Names, by label."""
    tokenizer_path: Path | None = None
    """`tokenizer.json` where there is text."""
    tokenizer_hash: str | None = None
    content_hash: str | None = None
    """Of all samples in order; None: the front door reads them once to say it."""
    num_bad_samples: int = 0
    """That were left out because they could not be decoded and `data.skips_bad_samples` says so."""
    notes: tuple[str, ...] = ()
    """What a reader should know, a sentence each."""

    @property
    def parts(self) -> dict[str, Part]:
        """The splits that there are, by name."""
        found = {"train": self.train, "val": self.val, "test": self.test}
        return {name: part for name, part in found.items() if part is not None}


class Opener(Protocol):
    """Reads one kind of source."""

    def __call__(
        self, recipe: DataRecipe, task: TaskRecipe, argument: str, *, cache: Path, on_progress: Progress
    ) -> Source:
        """Return what was found.

        Raises:
            DataError: It is missing, empty, unreadable or does not suit the task.
            MissingExtraError: It needs a package that is not installed.
            StorageError: The cache cannot be written.
        """
        ...
