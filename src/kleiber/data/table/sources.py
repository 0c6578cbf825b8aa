"""Sources of samples that are tables: `csv:`, `jsonl:`, `parquet:`, and `pairs:` of texts."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from kleiber.data.corpus import Progress
from kleiber.data.sample_checks import refuse_without_effect
from kleiber.data.source import Source
from kleiber.data.table.features import feature_source
from kleiber.data.table.opening import open_table
from kleiber.data.table.row_answers import read_answers
from kleiber.data.table.row_splits import read_splits
from kleiber.data.table.table import Table
from kleiber.data.texts.source import text_source
from kleiber.errors import DataError
from kleiber.runs import TaskRecipe
from kleiber.runs.recipe import DataRecipe

__all__ = ["open_pairs", "open_rows", "pair_source", "row_source"]


def open_rows(
    recipe: DataRecipe, task: TaskRecipe, argument: str, *, cache: Path, on_progress: Progress
) -> Source:
    """Return the rows of the tables at `argument`: the texts in `data.field` where it is set, else features.

    Raises:
        DataError: Nothing is there, it does not parse, a column is missing or empty, or the task asks for something else.
        MissingExtraError: The format needs a package that is not installed.
        StorageError: The cache cannot be written.
    """
    table = open_table(recipe.source, argument, skips_bad=recipe.skips_bad_samples)
    return row_source(table, recipe, task, cache=cache, on_progress=on_progress)


def row_source(
    table: Table, recipe: DataRecipe, task: TaskRecipe, *, cache: Path, on_progress: Progress
) -> Source:
    """Return the rows of a table: the texts in `data.field` where it is set, else features."""
    if task.name not in {"classification", "regression"}:
        raise DataError(
            f"data.source '{table.source}' has a column to predict, and the task {task.name} asks for something else.",
            hint="--set task.name=classification"
            + ("   or data.source=pairs:FILE" if task.name == "seq2seq" else ""),
        )
    if recipe.field is None:
        return feature_source(table, recipe, task, cache=cache, on_progress=on_progress)
    refuse_without_effect(recipe, used={"field", "target", "split_field", "has_quality_filter", "tokenizer"})
    field = table.require(recipe.field, "field")
    if field == table.target(recipe):
        raise DataError(
            f"data.field must not be the column to predict, which is {field!r}.",
            hint=f"--set data.target={next(name for name in (*table.columns, 'COLUMN') if name != field)}",
        )
    return text_source(
        table,
        {"tokens": field},
        partial(read_answers, table, recipe, task),
        recipe,
        inputs="tokens",
        task=task.name,
        cache=cache,
        on_progress=on_progress,
    )


def open_pairs(
    recipe: DataRecipe, task: TaskRecipe, argument: str, *, cache: Path, on_progress: Progress
) -> Source:
    """Return the pairs of texts in the tables at `argument`: `data.field` is the source's side, `data.target` the target's.

    Both may be left out of a table of two columns, the first of which is the source's side.

    Raises:
        DataError: Nothing is there, it does not parse, a column is missing or empty, or the task has no use for pairs.
        MissingExtraError: The format needs a package that is not installed.
        StorageError: The cache cannot be written.
    """
    table = open_table(recipe.source, argument, skips_bad=recipe.skips_bad_samples)
    return pair_source(table, recipe, task, cache=cache, on_progress=on_progress)


def pair_source(
    table: Table, recipe: DataRecipe, task: TaskRecipe, *, cache: Path, on_progress: Progress
) -> Source:
    """Return the rows of a table as pairs of texts."""
    refuse_without_effect(recipe, used={"field", "target", "split_field", "has_quality_filter", "tokenizer"})
    texts = [name for name in table.columns if name != recipe.split_field]
    field, target = recipe.field, recipe.target
    if len(texts) == 2:
        field, target = field or texts[0], target or texts[1]
    if len(texts) < 2:
        raise DataError(
            f"'{table.source}' has no two columns: pairs of texts are a source and its target.",
            got=texts,
            hint="columns stand apart by , ; tab or | in a .csv, by tabs in a .tsv",
        )
    if field is None or target is None:
        raise DataError(
            f"'{table.source}' has more columns than two: data.field must name the source's side, data.target the "
            "target's.",
            got=texts,
            hint=f"--set data.field={texts[0]} --set data.target={texts[-1]}",
        )
    table.require(field, "field")
    table.require(target, "target")
    if field == target:
        raise DataError(
            "data.field and data.target must be two columns.",
            got=field,
            hint=f"--set data.field={texts[0]} --set data.target={texts[-1]}",
        )
    return text_source(
        table,
        {"source": field, "target": target},
        partial(read_splits, table, recipe),
        recipe,
        inputs="pairs",
        task=task.name,
        cache=cache,
        on_progress=on_progress,
    )
