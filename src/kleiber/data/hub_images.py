"""Images of a data set that Hugging Face `datasets` reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kleiber.data.corpus import Progress
from kleiber.data.data import Split
from kleiber.data.images import EncodedImage, prepare_images
from kleiber.data.prepared import PreparedMeta, open_prepared
from kleiber.data.sample_checks import refuse_without_effect
from kleiber.data.source import Source
from kleiber.data.table.parts import load_answers, parts_of, save_answers
from kleiber.data.table.row_answers import read_answers
from kleiber.data.table.table import Table
from kleiber.errors import DataError
from kleiber.runs import TaskRecipe
from kleiber.runs.recipe import DataRecipe

__all__ = ["image_source"]

_VERSION = 1
"""Of the preparation: raise it when the same files would give other arrays."""


def image_source(
    table: Table,
    splits: Mapping[Split, Any],
    images: Sequence[str],
    recipe: DataRecipe,
    task: TaskRecipe,
    *,
    cache: Path,
    on_progress: Progress,
) -> Source:
    """Return the images of a data set, decoded into the cache on the first call.

    Args:
        table: Its rows.
        splits: Its data sets, whose rows in order are those of the table.
        images: Columns of images; `data.field` says which where there are several.
        recipe: What to predict, the images' size.
        task: What is asked.
        cache: Folder of prepared data.
        on_progress: Is told each stage of a preparation as it begins.

    Raises:
        DataError: It is not said which column holds the images or what to predict, or an image does not decode.
        MissingExtraError: Pillow is not installed.
        StorageError: The cache cannot be written.
    """
    refuse_without_effect(recipe, used={"field", "target", "image_size"})
    column = recipe.field or images[0]
    if column not in images or (recipe.field is None and len(images) > 1):
        raise DataError(
            f"data.field must name the column of images of '{table.source}': {' or '.join(images)}.",
            got=recipe.field,
            hint=f"--set data.field={images[0]}",
        )
    target = table.target(recipe)
    if target in images:
        others = [name for name in table.columns if name not in images]
        raise DataError(
            f"data.target must name the column to predict of '{table.source}', and {target!r} holds images.",
            got=recipe.target,
            hint=f"--set data.target={others[-1] if others else 'COLUMN'}",
        )
    # Captions are made of the names of classes.
    asked = task if task.name == "regression" else TaskRecipe(name="classification")
    key = {
        "version": _VERSION,
        "table": table.stats,
        "columns": [column, target],
        "task": asked.name,
        "recipe": recipe.model_dump(include={"image_size", "skips_bad_samples"}),
    }

    def prepare(folder: Path) -> PreparedMeta:
        answers = read_answers(table, recipe.model_copy(update={"target": target}), asked)
        on_progress("decoding images")
        meta = prepare_images(
            folder,
            _encoded(splits, column),
            source=table.source,
            image_size=recipe.image_size,
            skips_bad=recipe.skips_bad_samples,
            classes=answers.classes,
        )
        save_answers(answers.at(np.load(folder / "kept.npy")), folder)
        return meta.model_copy(update={"num_bad_samples": meta.num_bad_samples + answers.num_bad})

    prepared = open_prepared(cache, "images", key, prepare)
    answers = load_answers(prepared)
    samples = prepared.samples(images="images")
    parts = parts_of(answers, samples)
    return Source(
        shape=samples.image_shape(len(answers.classes) or 1),
        train=parts["train"],
        val=parts.get("val"),
        test=parts.get("test"),
        classes=answers.classes,
        content_hash=prepared.meta.content_hash,
        num_bad_samples=answers.num_bad,
        notes=prepared.meta.notes,
    )


def _encoded(splits: Mapping[Split, Any], column: str) -> list[EncodedImage]:
    from datasets import Image  # noqa: PLC0415 - an extra, and the caller has one of its data sets

    return [
        EncodedImage(f"row {row + 1} of the {split} split", partial(_bytes_of, cells, column, row))
        for split, dataset in splits.items()
        for cells in [dataset.select_columns([column]).cast_column(column, Image(decode=False))]
        for row in range(len(cells))
    ]


def _bytes_of(cells: Any, column: str, row: int) -> bytes:
    cell = cells[row][column]
    if cell is None:
        return b""
    encoded: bytes | None = cell["bytes"]
    return Path(cell["path"]).read_bytes() if encoded is None else encoded
