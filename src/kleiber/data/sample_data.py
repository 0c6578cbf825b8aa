"""Samples, ready to learn from: the front door of all data but running text."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kleiber.data.batches import Batch, shuffled_indices
from kleiber.data.corpus import Progress
from kleiber.data.data import Split
from kleiber.data.embedded import open_breast_cancer, open_diabetes, open_digits, open_wine
from kleiber.data.normalization import Normalization, chunks, fit_normalization
from kleiber.data.sample_checks import check_finite, check_source, check_suits
from kleiber.data.selection import selected, thinned
from kleiber.data.source import Opener, Part, Source
from kleiber.data.splits import carved
from kleiber.errors import DataError, RecipeError, nearest
from kleiber.runs import AugmentRecipe, TaskRecipe, default_cache
from kleiber.runs.recipe import DataRecipe
from kleiber.runs.record import DataMeta

__all__ = ["SOURCES", "SampleData", "open_samples"]

SOURCES: dict[str, Opener] = {
    "digits": open_digits,
    "breast_cancer": open_breast_cancer,
    "diabetes": open_diabetes,
    "wine": open_wine,
}
"""Of each kind of source, what stands before the colon, its opener."""


@dataclass(frozen=True)
class SampleData:
    """Samples in splits, normalized and augmented as they are gathered."""

    meta: DataMeta
    seed: int
    """Of the order of the training samples and of augmentation."""
    parts: Mapping[str, Part]
    """By split; `test` is left out where there is none."""
    normalizations: Mapping[str, Normalization]
    """By role, fitted on the training samples."""
    augment: tuple[AugmentRecipe, ...]
    tokenizer_path: Path | None
    num_workers: int

    def batches(self, split: Split, cursor: int, batch_size: int) -> Iterator[Batch]:
        """Return batches from `cursor` on: without end for train, one pass in a fixed order for the others.

        Args:
            split: `train` is shuffled anew each epoch and augmented; an absent `test` gives nothing.
            cursor: Samples consumed so far; a batch's own `cursor` says where to go on.
            batch_size: Samples a batch; the last one of `val` and `test` may be smaller.

        Raises:
            RecipeError: The cursor is negative or the batch size is not positive.
        """
        if cursor < 0 or batch_size < 1:
            raise RecipeError(
                "batches take a cursor of 0 or more and a batch_size of 1 or more.", got=(cursor, batch_size)
            )
        part = self.parts.get(split)
        if part is None:
            return iter(())
        if split == "train":
            plan = shuffled_indices(len(part), seed=self.seed, cursor=cursor, batch_size=batch_size)
        else:
            plan = _in_order(len(part), cursor, batch_size)
        return (self._batch(part, indices, after) for indices, after in plan)

    def _batch(self, part: Part, indices: npt.NDArray[np.intp], after: int) -> Batch:
        arrays: dict[str, npt.NDArray[Any]] = part.samples.gather(indices)
        for role, normalization in self.normalizations.items():
            arrays[role] = normalization.apply(arrays[role])
        if part.labels is not None:
            arrays["labels"] = part.labels[indices]
        if part.values is not None:
            arrays["values"] = part.values[indices]
        return Batch(arrays, after)


def _in_order(num: int, cursor: int, batch_size: int) -> Iterator[tuple[npt.NDArray[np.intp], int]]:
    for start in range(cursor, num, batch_size):
        end = min(start + batch_size, num)
        yield np.arange(start, end), end


def open_samples(
    recipe: DataRecipe,
    task: TaskRecipe,
    *,
    seed: int,
    cache: Path | None = None,
    on_progress: Progress | None = None,
) -> SampleData:
    """Return the samples of a recipe, decoded on the first call and found in the cache after.

    What is held out comes first and depends on nothing but the source and the two fractions, so that runs on less data, or
    with another seed, are measured on the same samples.

    Args:
        recipe: Source, what is held out, what is done to samples.
        task: What is asked of them.
        seed: Of the order of the training samples and of augmentation.
        cache: Folder of prepared data; `$KLEIBER_CACHE` or `~/.cache/kleiber` by default.
        on_progress: Is told each stage of a preparation as it begins.

    Raises:
        DataError: The source is unknown, missing, empty, unreadable or too small, or does not suit the task.
        MissingExtraError: The source's format needs a package that is not installed.
        StorageError: The cache cannot be written.
    """
    kind, _, argument = recipe.source.partition(":")
    if kind not in SOURCES:
        raise DataError(
            f"data.source must be one of the known kinds for the task {task.name}. {nearest(kind, SOURCES)}",
            got=recipe.source,
            hint="--set data.source=digits",
        )
    tell = on_progress or (lambda _: None)
    source = SOURCES[kind](recipe, task, argument, cache=cache or default_cache(), on_progress=tell)
    check_suits(source, task, name=recipe.source)
    check_source(source, name=recipe.source)
    parts = carved(source.parts, recipe)
    if recipe.positive_frac is not None:
        parts = thinned(parts, recipe.positive_frac, source=recipe.source)
    # Losses of a regression are in deviations of its targets: the same unit however many samples are selected.
    values = parts["train"].values
    parts["train"] = selected(parts["train"], recipe)
    return SampleData(
        meta=_meta(source, parts, recipe, values),
        seed=seed,
        parts=parts,
        normalizations=fit_normalization(parts["train"].samples, recipe.normalization),
        augment=recipe.augment,
        tokenizer_path=source.tokenizer_path,
        num_workers=recipe.num_workers,
    )


def _meta(
    source: Source, parts: Mapping[str, Part], recipe: DataRecipe, values: npt.NDArray[np.float32] | None
) -> DataMeta:
    train = parts["train"]
    mean = () if values is None else tuple(values.mean(0, dtype=np.float64).tolist())
    std = () if values is None else tuple(values.std(0, dtype=np.float64).tolist())
    counts = None if train.labels is None else np.bincount(train.labels, minlength=len(source.classes))
    return DataMeta(
        source=recipe.source,
        unit="sample",
        shape=source.shape,
        corpus_hash=source.content_hash or _hash_of(list(source.parts.values())),
        python_version=platform.python_version(),
        tokenizer_hash=source.tokenizer_hash,
        eval_hash=_hash_of([parts["val"]], f"{mean} {std} {source.tokenizer_hash}"),
        num_documents=sum(len(part) for part in source.parts.values()),
        num_train_tokens=len(train),
        num_val_tokens=len(parts["val"]),
        num_test_tokens=len(parts["test"]) if "test" in parts else 0,
        classes=source.classes,
        class_counts=() if counts is None else tuple(counts.tolist()),
        target_mean=mean,
        target_std=std,
        num_bad_samples=source.num_bad_samples,
        notes=source.notes,
    )


def _hash_of(parts: list[Part], salt: str = "") -> str:
    digest = hashlib.sha256(salt.encode())
    for part in parts:
        for indices, arrays in chunks(part.samples):
            for role in sorted(arrays):
                check_finite(arrays[role], indices, role)
                digest.update(np.ascontiguousarray(arrays[role]).tobytes())
        for column in (part.labels, part.values):
            if column is not None:
                digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()[:16]
