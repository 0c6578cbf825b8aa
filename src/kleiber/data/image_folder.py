"""`imagefolder:DIR`: images in a folder for each class."""

from __future__ import annotations

from pathlib import Path

from kleiber.data.class_folders import ClassFolders, class_folders
from kleiber.data.corpus import Progress
from kleiber.data.images import EncodedImage, prepare_images
from kleiber.data.prepared import Prepared, PreparedMeta, file_stats, open_prepared
from kleiber.data.sample_checks import refuse_without_effect
from kleiber.data.source import Source
from kleiber.runs import TaskRecipe
from kleiber.runs.recipe import DataRecipe

__all__ = ["IMAGE_SUFFIXES", "open_image_folder"]

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
    refuse_without_effect(recipe, used={"image_size"})
    folders = class_folders(argument, IMAGE_SUFFIXES, source=recipe.source, what="image")
    return folders.source_of(_prepared(folders, recipe, cache, on_progress))


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
