"""Samples, ready to learn from: the front door of all data but running text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kleiber.data.ahead import prepared_ahead
from kleiber.data.audio_folder import open_audio_folder
from kleiber.data.augment import check_augment
from kleiber.data.batches import Batch, shuffled_indices
from kleiber.data.captions import with_captions
from kleiber.data.cifar import open_cifar10
from kleiber.data.copies import without_copies
from kleiber.data.corpus import Progress
from kleiber.data.data import Split
from kleiber.data.embedded import open_classified, open_diabetes, open_digits
from kleiber.data.hub import open_hf
from kleiber.data.image_folder import open_image_folder
from kleiber.data.normalization import Normalization, fit_normalization
from kleiber.data.npz_files import open_npz
from kleiber.data.sample_batches import Preparation, indices_in_order
from kleiber.data.sample_checks import check_source, check_suits, refuse_sizes_without_effect
from kleiber.data.sample_meta import sample_meta
from kleiber.data.selection import selected, thinned
from kleiber.data.series import open_series
from kleiber.data.source import Opener, Part, Source, SubsetSamples
from kleiber.data.splits import carved
from kleiber.data.table.sources import open_pairs, open_rows
from kleiber.data.texts.padded import PaddedTexts
from kleiber.errors import DataError, RecipeError, nearest
from kleiber.runs import AugmentRecipe, TaskRecipe, default_cache
from kleiber.runs.recipe import DataRecipe
from kleiber.runs.record import DataMeta

__all__ = ["SOURCES", "SampleData", "open_samples"]

SOURCES: dict[str, Opener] = {
    "digits": open_digits,
    "breast_cancer": open_classified,
    "diabetes": open_diabetes,
    "wine": open_classified,
    "imagefolder": open_image_folder,
    "audiofolder": open_audio_folder,
    "npz": open_npz,
    "cifar10": open_cifar10,
    "csv": open_rows,
    "jsonl": open_rows,
    "parquet": open_rows,
    "pairs": open_pairs,
    "series": open_series,
    "hf": open_hf,
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
    """By role, fitted on the training samples; `undo` gives back what a person would look at."""
    augment: tuple[AugmentRecipe, ...]
    tokenizer_path: Path | None
    num_workers: int

    def whole_texts(self, split: Split, role: str) -> Iterator[npt.NDArray[np.int64]]:
        """Yield the tokens of each text of a split in order, before it is cut to the context: what a translation is held to.

        Raises:
            DataError: The samples are no texts.
        """
        part = self.parts[split].samples
        indices = part.indices if isinstance(part, SubsetSamples) else np.arange(len(part))
        samples = part.whole if isinstance(part, SubsetSamples) else part
        if not isinstance(samples, PaddedTexts):
            raise DataError(
                f"data.source '{self.meta.source}' holds no texts.", hint="--set data.source=pairs:FILE"
            )
        return (samples.whole(role, int(index)) for index in indices)

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
        is_train = split == "train"
        prepare = Preparation(
            part,
            self.normalizations,
            self.augment if is_train else (),
            seed=self.seed,
            num_outputs=self.meta.shape.num_outputs,
        )
        if not is_train:
            return (prepare(*chosen) for chosen in indices_in_order(len(part), cursor, batch_size))
        plan = shuffled_indices(len(part), seed=self.seed, cursor=cursor, batch_size=batch_size)
        if self.num_workers:
            return prepared_ahead(prepare, plan, self.num_workers)
        return (prepare(*chosen) for chosen in plan)


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
    source = _opened(recipe, task, cache or default_cache(), on_progress or (lambda _: None))
    parts = carved(source.parts, recipe, is_carved=source.is_carved)
    if recipe.positive_frac is not None:
        parts = thinned(parts, recipe.positive_frac, source=recipe.source)
    copies = None
    if recipe.duplicates != "keep":
        copies = without_copies(parts, recipe.duplicates, source=recipe.source)
        parts["train"] = copies.train
    train_values = parts["train"].values
    parts["train"] = selected(parts["train"], recipe)
    meta = sample_meta(source, parts, name=recipe.source, train_values=train_values, copies=copies)
    normalizations = _normalizations(parts["train"], recipe)
    scales = {role: one.scales for role, one in normalizations.items()}
    return SampleData(
        meta=meta.model_copy(update={"input_scales": scales}),
        seed=seed,
        parts=parts,
        normalizations=normalizations,
        augment=recipe.augment,
        tokenizer_path=source.tokenizer_path,
        num_workers=recipe.num_workers,
    )


def _opened(recipe: DataRecipe, task: TaskRecipe, cache: Path, on_progress: Progress) -> Source:
    kind, _, argument = recipe.source.partition(":")
    if kind not in SOURCES:
        raise DataError(
            f"data.source must be one of the known kinds for the task {task.name}. {nearest(kind, SOURCES)}",
            got=recipe.source,
            hint="--set data.source=digits",
        )
    source = SOURCES[kind](recipe, task, argument, cache=cache, on_progress=on_progress)
    if task.name == "contrastive" and source.shape.inputs == "images" and source.classes:
        source = with_captions(source, cache, name=recipe.source)
    check_suits(source, task, name=recipe.source)
    refuse_sizes_without_effect(recipe, source.shape.inputs)
    check_source(source, name=recipe.source)
    check_augment(recipe.augment, source.shape, task.name)
    return source


def _normalizations(train: Part, recipe: DataRecipe) -> dict[str, Normalization]:
    fitted = fit_normalization(train.samples, recipe.normalization)
    if not fitted and recipe.normalization != "standard":
        raise DataError(
            f"data.normalization has no effect on '{recipe.source}': its samples are texts.",
            got=recipe.normalization,
            hint="--set data.normalization=standard",
        )
    return fitted
