"""`hf:NAME`: data sets that Hugging Face `datasets` (an extra) reads, from a folder or from the hub."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from kleiber.data.corpus import Progress
from kleiber.data.data import Split
from kleiber.data.hub_images import image_source
from kleiber.data.prepared import file_stats
from kleiber.data.source import Source
from kleiber.data.table.files import split_in
from kleiber.data.table.sources import pair_source, row_source
from kleiber.data.table.table import CHUNK_ROWS, Rows, Table
from kleiber.errors import DataError, MissingExtraError
from kleiber.runs import TaskRecipe
from kleiber.runs.recipe import DataRecipe

__all__ = ["open_hf"]


def open_hf(
    recipe: DataRecipe, task: TaskRecipe, argument: str, *, cache: Path, on_progress: Progress
) -> Source:
    """Return the rows of a data set: images where it has a column of them, pairs of texts for seq2seq, else as `csv:` does.

    `hf:NAME` is a data set of the hub, `hf:NAME:CONFIG` one of its configurations; a folder is one that `save_to_disk` wrote, or
    one of data files. Code that a data set brings is never run. Columns inside of columns are called `translation.en`.

    Raises:
        DataError: Nothing is there or can be reached, a column is missing or empty, or the task asks for something else.
        MissingExtraError: `datasets` is not installed.
        StorageError: The cache cannot be written.
    """
    on_progress("opening the data set")
    splits = _splits(_loaded(argument, recipe.source, cache), recipe.source)
    table = _table(splits, recipe.source)
    images = [name for name, feature in splits["train"].features.items() if _kind(feature) == "Image"]
    if images:
        return image_source(table, splits, images, recipe, task, cache=cache, on_progress=on_progress)
    if task.name == "seq2seq":
        return pair_source(table, recipe, task, cache=cache, on_progress=on_progress)
    return row_source(table, recipe, task, cache=cache, on_progress=on_progress)


def _loaded(argument: str, source: str, cache: Path) -> Any:
    try:
        import datasets  # noqa: PLC0415 - an extra, and a second to import
    except ImportError:
        raise MissingExtraError.of("datasets", "data", f"Reading '{source}'") from None
    folder = Path(argument).expanduser()
    name, _, config = (str(folder), "", "") if folder.exists() else argument.partition(":")
    try:
        if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
            return datasets.load_from_disk(str(folder))
        return datasets.load_dataset(name, config or None, cache_dir=str(cache / "datasets"))
    except (ValueError, OSError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"data.source '{source}' cannot be opened: {reason}",
            hint="--set data.source=hf:FOLDER   or hf:NAME, or hf:NAME:CONFIG",
        ) from None


def _splits(loaded: Any, source: str) -> dict[Split, Any]:
    """Return the data set of each split, flat, all columns as plain Python; a data set without splits is train."""
    # A format that was saved along would hide columns, or give arrays where a table has cells.
    loaded = loaded.with_format(None)
    if not isinstance(loaded, Mapping):
        return {"train": loaded.flatten()}
    named: dict[Split, Any] = {}
    for name, dataset in loaded.items():
        split = split_in(str(name))
        if split is not None and split not in named:
            named[split] = dataset.flatten()
    if "train" not in named:
        raise DataError(f"data.source '{source}' has no training split.", got=[str(name) for name in loaded])
    return named


def _table(splits: Mapping[Split, Any], source: str) -> Table:
    columns = tuple(splits["train"].column_names)
    odd = next((split for split, rows in splits.items() if set(rows.column_names) != set(columns)), None)
    if odd is not None:
        raise DataError(
            f"data.source '{source}': the train and {odd} splits must have the same columns.",
            got=sorted(set(columns) ^ set(splits[odd].column_names)),
        )
    features = splits["train"].features
    return Table(
        source=source,
        columns=columns,
        has_types=True,
        chunks=partial(_chunks, splits, source),
        stats=tuple(
            file_stats(Path(file["filename"]) for rows in splits.values() for file in rows.cache_files)
        ),
        classes={
            name: tuple(feature.names) for name, feature in features.items() if _kind(feature) == "ClassLabel"
        },
    )


def _chunks(splits: Mapping[Split, Any], source: str) -> Iterator[Rows]:
    for split, dataset in splits.items():
        # Images and sounds are read where they are wanted, and not a chunk of a table at a time.
        plain = dataset.select_columns(
            [name for name, feature in dataset.features.items() if _kind(feature) not in {"Image", "Audio"}]
        )
        first = 1
        for columns in plain.iter(CHUNK_ROWS):
            num = len(next(iter(columns.values()), ()))
            numbers = range(first, first + num)
            first += num
            yield Rows(columns, f"the {split} split of {source}", "row", numbers, split)


def _kind(feature: Any) -> str:
    return type(feature).__name__
