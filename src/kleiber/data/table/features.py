"""Tables of numbers and categories as features: prepared on disk, a chunk of rows at a time.

Memory holds the answers, a chunk of rows, and a few columns at once; never the table.

Shapes: N rows of all splits, C columns, F features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kleiber.data.corpus import Progress
from kleiber.data.prepared import NpyWriter, Prepared, PreparedMeta, open_prepared
from kleiber.data.sample_checks import num_in, refuse_without_effect
from kleiber.data.source import Source
from kleiber.data.table.columns import ColumnScan, Features, codes_of, fit_columns, scan_columns
from kleiber.data.table.parts import load_answers, parts_of, save_answers, train_rows
from kleiber.data.table.row_answers import read_answers
from kleiber.data.table.table import CHUNK_ROWS, Table
from kleiber.errors import DataError
from kleiber.runs import DataShape, TaskRecipe
from kleiber.runs.recipe import DataRecipe

__all__ = ["feature_source"]

_VERSION = 1
"""Of the preparation below: raise it when the same files would give other features."""

_BLOCK_BYTES = 2**28


def feature_source(
    table: Table, recipe: DataRecipe, task: TaskRecipe, *, cache: Path, on_progress: Progress
) -> Source:
    """Return the rows of a table as features.

    Numbers stay numbers: the median of the training rows stands for what is missing, and where a training row lacks the
    number, a second feature says so. A category is one feature for each text of the training rows, one for missing where a
    training row lacks it, and one for all that training rows do not have.

    Raises:
        DataError: A column is missing, empty, or holds what no feature can be made of; or the answers do not suit the task.
        StorageError: The cache cannot be written.
    """
    refuse_without_effect(recipe, used={"target", "columns", "split_field"})
    names = _columns(table, recipe)
    key = {
        "version": _VERSION,
        "table": table.stats,
        "source": recipe.source,
        "columns": names,
        "task": task.name,
        "recipe": recipe.model_dump(
            include={"target", "split_field", "val_frac", "test_frac", "skips_bad_samples"}
        ),
    }
    prepared = open_prepared(
        cache,
        "tables",
        key,
        lambda folder: _prepare(table, names, recipe, task, folder=folder, on_progress=on_progress),
    )
    return _source(prepared)


def _columns(table: Table, recipe: DataRecipe) -> tuple[str, ...]:
    """Return the columns that features are made of."""
    others = (table.target(recipe), recipe.split_field)
    if recipe.columns is None:
        names = tuple(name for name in table.columns if name not in others)
    else:
        names = tuple(table.require(name, "columns") for name in recipe.columns)
        leak = next((name for name in names if name in others), None)
        if leak is not None:
            raise DataError(
                f"data.columns must not hold {leak!r}, the {'target' if leak == others[0] else 'split_field'}.",
                hint=f"--set 'data.columns=[{', '.join(name for name in names if name != leak) or 'COLUMN'}]'",
            )
    if not names:
        raise DataError(
            f"data.source '{table.source}' has no columns to learn from beside the one to predict.",
            got=list(table.columns),
            hint="columns stand apart by , ; tab or | in a .csv, by tabs in a .tsv",
        )
    return names


def _prepare(
    table: Table,
    names: Sequence[str],
    recipe: DataRecipe,
    task: TaskRecipe,
    *,
    folder: Path,
    on_progress: Progress,
) -> PreparedMeta:
    on_progress("reading what is to be predicted")
    answers = read_answers(table, recipe, task)
    train = train_rows(answers, recipe)
    on_progress("looking through the columns")
    scans = scan_columns(table, names)
    on_progress("reading the columns")
    codes_path = folder / "codes.npy"
    with closing(NpyWriter(codes_path)) as writer:
        for rows in table.chunks():
            writer.append(codes_of(rows, scans, has_types=table.has_types))
    codes_NC = np.load(codes_path, mmap_mode="r")
    on_progress("making features")
    features = _fit(scans, codes_NC, train, table.source)
    digest = hashlib.sha256(repr((features.names, answers.classes)).encode())
    with closing(NpyWriter(folder / "features.npy")) as writer:
        for start in range(0, len(codes_NC), CHUNK_ROWS):
            encoded_BF = features.encode(codes_NC[start : start + CHUNK_ROWS], scans)
            digest.update(encoded_BF.tobytes())
            writer.append(encoded_BF)
    for column in (answers.splits, answers.labels, answers.values):
        digest.update(b"" if column is None else column.tobytes())
    codes_path.unlink()
    save_answers(answers, folder)
    features.write(folder / "columns.json")
    return PreparedMeta(
        content_hash=digest.hexdigest()[:16],
        classes=answers.classes,
        num_bad_samples=answers.num_bad,
        notes=(
            f"{num_in(len(names), 'column')} became {num_in(len(features.names), 'feature')}",
            *(scan.note for scan in scans if scan.note is not None),
        ),
    )


def _fit(
    scans: Sequence[ColumnScan], codes_NC: npt.NDArray[np.float64], train: npt.NDArray[np.intp], source: str
) -> Features:
    """Fit the columns as many at a time as memory hardly notices."""
    step = max(1, _BLOCK_BYTES // (8 * len(train)))
    return Features(
        columns=tuple(
            column
            for start in range(0, len(scans), step)
            for column in fit_columns(
                scans[start : start + step], codes_NC[:, start : start + step][train], source=source
            )
        )
    )


def _source(prepared: Prepared) -> Source:
    answers = load_answers(prepared)
    samples = prepared.samples(features="features")
    num_features = samples.arrays["features"].shape[1]
    parts = parts_of(answers, samples)
    return Source(
        shape=DataShape(inputs="features", num_features=num_features, num_outputs=len(answers.classes) or 1),
        train=parts["train"],
        val=parts.get("val"),
        test=parts.get("test"),
        classes=answers.classes,
        content_hash=prepared.meta.content_hash,
        num_bad_samples=answers.num_bad,
        notes=prepared.meta.notes,
    )
