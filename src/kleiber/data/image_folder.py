"""`imagefolder:DIR`: images in a folder for each class."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kleiber.data.class_folders import ClassFolders, class_folders
from kleiber.data.corpus import Progress
from kleiber.data.images import EncodedImage, prepare_images
from kleiber.data.prepared import MappedSamples, Prepared, PreparedMeta, file_stats, open_prepared
from kleiber.data.source import Part, Source
from kleiber.runs import DataShape, TaskRecipe
from kleiber.runs.recipe import DataRecipe

__all__ = ["IMAGE_SUFFIXES", "image_shape", "open_image_folder"]

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
)

_VERSION = 1
"""Of the preparation: raise it when the same files would give other arrays."""


def open_image_folder(
    recipe: DataRecipe,
    task: TaskRecipe,  # noqa: ARG001 - an opener's signature
    argument: str,
    *,
    cache: Path,
    on_progress: Progress,
) -> Source:
    """Return the images below `argument`, decoded into the cache on the first call.

    Raises:
        DataError: There is no folder, no class folder or no image in one, an image does not decode, or sizes differ.
        MissingExtraError: Pillow is not installed.
        StorageError: The cache cannot be written.
    """
    folders = class_folders(argument, IMAGE_SUFFIXES, source=recipe.source, what="image")
    prepared = _prepared(folders, recipe, cache, on_progress)
    kept = prepared.read("kept")
    samples = prepared.samples(images="images")
    whole = Part(samples, labels=folders.labels[kept])
    return Source(
        shape=image_shape(samples, len(folders.classes)),
        train=folders.part("train", whole, kept) or whole.take(np.empty(0, np.intp)),
        val=folders.part("val", whole, kept),
        test=folders.part("test", whole, kept),
        classes=folders.classes,
        content_hash=prepared.meta.content_hash,
        num_bad_samples=prepared.meta.num_bad_samples,
        notes=prepared.meta.notes,
    )


def image_shape(samples: MappedSamples, num_classes: int | None) -> DataShape:
    """Return the shape of mapped images [N, C, H, W] with so many classes."""
    _, channels, height, width = samples.arrays["images"].shape
    return DataShape(inputs="images", channels=channels, height=height, width=width, num_outputs=num_classes)


def _prepared(folders: ClassFolders, recipe: DataRecipe, cache: Path, on_progress: Progress) -> Prepared:
    def prepare(target: Path) -> PreparedMeta:
        on_progress("decoding images")
        return prepare_images(
            target,
            [EncodedImage(folders.name(index), path.read_bytes) for index, path in enumerate(folders.files)],
            source=recipe.source,
            image_size=recipe.image_size,
            skips_bad=recipe.skips_bad_samples,
        )

    key = {
        "version": _VERSION,
        "files": file_stats(folders.files),
        "recipe": recipe.model_dump(include={"image_size", "skips_bad_samples"}),
    }
    return open_prepared(cache, "images", key, prepare)
