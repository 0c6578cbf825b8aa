"""Encoded images or sounds end to end in one array, with the offsets where each begins."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kleiber.data.images import EncodedImage, prepare_images
from kleiber.data.npz_arrays import Arrays, class_names, given_classes
from kleiber.data.prepared import Prepared, PreparedMeta
from kleiber.data.source import Part, Source
from kleiber.data.spectrograms import Clip, prepare_spectrograms
from kleiber.errors import DataError
from kleiber.runs import TaskRecipe
from kleiber.runs.recipe import DataRecipe

__all__ = ["blob_source", "prepare_audio", "prepare_jpeg"]


def prepare_jpeg(target: Path, archives: Sequence[Arrays], recipe: DataRecipe) -> PreparedMeta:
    """Write the images of one archive, or of one with train and one with test, `labels.npy` and `is_test.npy`.

    Raises:
        DataError: Arrays do not fit each other, an image does not decode, or sizes differ.
    """
    images = [
        EncodedImage(f"image {index} of {split}", piece.tobytes)
        for split, archive in zip(("train", "test"), archives, strict=False)
        for index, piece in enumerate(_pieces(archive, "jpeg", recipe.source))
    ]
    meta = prepare_images(
        target,
        images,
        source=recipe.source,
        image_size=recipe.image_size,
        skips_bad=recipe.skips_bad_samples,
        classes=_classes(archives, recipe.source),
    )
    _write_labels(target, archives, recipe.source)
    return meta


def prepare_audio(target: Path, archives: Sequence[Arrays], recipe: DataRecipe) -> PreparedMeta:
    """Write the sounds as spectrograms, `labels.npy` and `is_test.npy`.

    Raises:
        DataError: Arrays do not fit each other, sample rates differ, or a clip is empty or not finite.
    """
    rates = [archive["sample_rate"] for archive in archives]
    if (
        any(rate.size != 1 or rate.dtype.kind not in "uif" or rate < 1 for rate in rates)
        or rates[0] != rates[-1]
    ):
        raise DataError(
            f"data.source '{recipe.source}': sample_rate must be one positive number.",
            got=[rate.tolist() if rate.size < 9 else rate.shape for rate in rates],
            hint="numpy.savez('train.npz', sample_rate=16000, ...)",
        )
    clips = [
        Clip(f"clip {index} of {split}", len(piece), partial(_wave, piece))
        for split, archive in zip(("train", "test"), archives, strict=False)
        for index, piece in enumerate(_pieces(archive, "audio", recipe.source))
    ]
    meta = prepare_spectrograms(
        target,
        clips,
        ~_is_test(archives),
        sample_rate=int(rates[0].item()),
        source=recipe.source,
        skips_bad=recipe.skips_bad_samples,
    )
    _write_labels(target, archives, recipe.source)
    return meta.model_copy(update={"classes": _classes(archives, recipe.source)})


def blob_source(prepared: Prepared, recipe: DataRecipe, task: TaskRecipe) -> Source:  # noqa: ARG001 - as all layouts
    """Return the samples that were prepared."""
    labels, is_test = prepared.read("labels"), prepared.read("is_test")
    samples = prepared.samples(images="images")
    whole = Part(samples, labels=labels)
    train = whole.take(np.flatnonzero(~is_test))
    classes = class_names(prepared.meta.classes, train.labels, recipe.source)
    return Source(
        shape=samples.image_shape(len(classes)),
        train=train,
        test=whole.take(np.flatnonzero(is_test)) if is_test.any() else None,
        classes=classes,
        content_hash=prepared.meta.content_hash,
        num_bad_samples=prepared.meta.num_bad_samples,
        notes=prepared.meta.notes,
    )


def _pieces(archive: Arrays, name: str, source: str) -> list[npt.NDArray[Any]]:
    """Return views of the pieces of a flat array.

    Raises:
        DataError: The array is not flat, or the offsets do not ascend inside of it, or there is not one label a piece.
    """
    flat, offsets, labels = archive[name], archive["offsets"], archive["labels"]
    is_flat = flat.ndim == 1 and (flat.dtype == np.uint8 if name == "jpeg" else flat.dtype.kind in "if")
    is_whole = offsets.ndim == 1 and len(offsets) and offsets.dtype.kind in "ui"
    if (
        not is_flat
        or not is_whole
        or offsets[0] < 0
        or offsets[-1] > len(flat)
        or (np.diff(offsets) < 0).any()
    ):
        raise DataError(
            f"data.source '{source}': offsets must ascend from 0 to at most the length of {name}, a flat array of "
            f"{'bytes' if name == 'jpeg' else 'numbers'}.",
            hint="offsets=numpy.cumsum([0, *map(len, pieces)])",
        )
    if labels.shape != (len(offsets) - 1,) or labels.dtype.kind not in "ui":
        raise DataError(
            f"data.source '{source}': labels must be {len(offsets) - 1:,} whole numbers, one less than offsets.",
            got=f"{labels.shape} of {labels.dtype}",
            hint="one label for each piece, 0 for the first class",
        )
    bounds = offsets.tolist()
    return [flat[start:end] for start, end in pairwise(bounds)]


def _wave(piece: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return a sound between -1 and 1: whole numbers are divided by the largest of their type."""
    full_scale = 1.0 if piece.dtype.kind == "f" else -float(np.iinfo(piece.dtype).min)
    return (piece / full_scale).astype(np.float32)


def _is_test(archives: Sequence[Arrays]) -> npt.NDArray[np.bool_]:
    """Return which samples are of the test split: as `is_test` says, or those of the second archive."""
    if len(archives) == 1 and "is_test" in archives[0]:
        return archives[0]["is_test"].astype(bool)
    return np.concatenate(
        [np.full(len(archive["labels"]), rank == 1) for rank, archive in enumerate(archives)]
    )


def _classes(archives: Sequence[Arrays], source: str) -> tuple[str, ...]:
    named = {given_classes(archive, source) for archive in archives}
    if len(named) > 1:
        raise DataError(
            f"data.source '{source}': the classes of train and test differ.",
            hint="give both archives the same array classes",
        )
    return named.pop()


def _write_labels(target: Path, archives: Sequence[Arrays], source: str) -> None:
    labels = np.concatenate([archive["labels"] for archive in archives]).astype(np.int64)
    is_test = _is_test(archives)
    if is_test.shape != labels.shape:
        raise DataError(
            f"data.source '{source}': is_test must say yes or no of each of the {len(labels):,} samples.",
            got=is_test.shape,
            hint="is_test=numpy.arange(len(labels)) >= num_train",
        )
    kept = np.load(target / "kept.npy")
    np.save(target / "labels.npy", labels[kept])
    np.save(target / "is_test.npy", is_test[kept])
