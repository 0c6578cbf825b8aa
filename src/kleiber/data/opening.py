"""From a recipe to data: which opener a source's kind has."""

from __future__ import annotations

from pathlib import Path

from kleiber.data.corpus import Progress
from kleiber.data.data import Data
from kleiber.data.text_data import open_text
from kleiber.errors import DataError
from kleiber.runs import TaskRecipe
from kleiber.runs.recipe import DataRecipe

__all__ = ["open_data"]

_TEXT_KINDS = ("stdlib", "text")


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
    is_text = recipe.source.partition(":")[0] in _TEXT_KINDS
    if task is None or task.name == "lm":
        if not is_text:
            _refuse_samples(recipe.source)
        return open_text(recipe, seed=seed, cache=cache, on_progress=on_progress)
    if is_text:
        raise DataError(
            f"data.source '{recipe.source}' is running text, and the task {task.name} learns from samples.",
            hint="--set task.name=lm   or --set data.source=digits",
        )
    from kleiber.data.sample_data import open_samples  # noqa: PLC0415 - text needs none of what it imports

    return open_samples(recipe, task, seed=seed, cache=cache, on_progress=on_progress)


def _refuse_samples(source: str) -> None:
    """Say of a source of samples what it is for; what is no source at all is refused where text is opened."""
    from kleiber.data.sample_data import SOURCES  # noqa: PLC0415 - text needs none of what it imports

    if source.partition(":")[0] in SOURCES:
        raise DataError(
            f"data.source '{source}' is made of samples, and the task lm models running text.",
            hint="--set task.name=classification   or --set data.source=text:PATH",
        )
