"""From a recipe to data: which opener a source's kind has."""

from __future__ import annotations

from pathlib import Path

from kleiber.data.corpus import Progress
from kleiber.data.data import Data
from kleiber.data.text_data import open_text
from kleiber.runs import TaskRecipe
from kleiber.runs.recipe import DataRecipe

__all__ = ["open_data"]


def open_data(
    recipe: DataRecipe,
    *,
    seed: int,
    task: TaskRecipe | None = None,
    cache: Path | None = None,
    on_progress: Progress | None = None,
) -> Data:
    """Return the data of a recipe, prepared on the first call and found in the cache after.

    Args:
        recipe: Source, what is held out, what is done to samples.
        seed: Of the order of the training samples and of augmentation.
        task: What is asked of it; None is language modelling.
        cache: Folder of prepared data; `$KLEIBER_CACHE` or `~/.cache/kleiber` by default.
        on_progress: Is told each stage of a preparation as it begins.

    Raises:
        DataError: The source is unknown, missing, empty, unreadable or too small, or does not suit the task.
        MissingExtraError: The source's format needs a package that is not installed.
        StorageError: The cache cannot be written.
    """
    if task is None or task.name == "lm":
        return open_text(recipe, seed=seed, cache=cache, on_progress=on_progress)
    from kleiber.data.sample_data import open_samples  # noqa: PLC0415 - text needs none of what it imports

    return open_samples(recipe, task, seed=seed, cache=cache, on_progress=on_progress)
