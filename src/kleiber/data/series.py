"""`series:PATH` and `series:NAME`: windows of a time series, split in time.

Shapes: N rows in the order of time, W windows, B of a batch, T steps that are seen (`data.context`), H steps to predict
(`data.horizon`), F columns.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kleiber.data.bundled_series import bundled_series
from kleiber.data.corpus import Progress
from kleiber.data.prepared import MappedSamples, NpyWriter, PreparedMeta, open_prepared
from kleiber.data.sample_checks import num_in, refuse_without_effect
from kleiber.data.source import Part, Source
from kleiber.data.table.numbers import as_number
from kleiber.data.table.opening import open_table
from kleiber.data.table.table import Rows, Table, is_missing
from kleiber.errors import DataError
from kleiber.runs import DataShape, TaskRecipe
from kleiber.runs.recipe import DataRecipe

__all__ = ["WindowSamples", "open_series", "split_in_time"]

_VERSION = 1
"""Of the preparation: raise it when the same files would give other arrays."""


@dataclass(frozen=True)
class WindowSamples:
    """Windows [T, F] that begin at each row of a series."""

    rows: MappedSamples
    """`series` float32 [N, F]."""
    context: int
    """T"""

    def __len__(self) -> int:
        """Return how many rows there are to begin at."""
        return len(self.rows)

    def gather(self, indices: npt.NDArray[np.intp]) -> dict[str, npt.NDArray[Any]]:
        """Return `series` [B, T, F]."""
        return self.rows.gather(np.asarray(indices)[:, None] + np.arange(self.context))


def open_series(
    recipe: DataRecipe, task: TaskRecipe, argument: str, *, cache: Path, on_progress: Progress
) -> Source:
    """Return the windows of a table whose rows follow each other in time, or of a series that statsmodels brings.

    A window is T rows of the target's own past and of `data.columns`, where they are named; to predict are the H values of the
    target that follow. The last rows are the test, those before them validation: a value that is held out is never seen in
    training, neither as target nor as past, and what a window of a later split sees of its past may be training rows.

    Raises:
        DataError: Nothing is there, a column is missing or no numbers, a row has none, or the series is too short.
        MissingExtraError: The format, or a bundled series, needs a package that is not installed.
        StorageError: The cache cannot be written.
    """
    refuse_without_effect(recipe, used={"target", "columns", "horizon"})
    if task.name != "regression":
        raise DataError(
            f"data.source '{recipe.source}' is a time series, whose next values are a regression.",
            got=task.name,
            hint="--set task.name=regression",
        )
    is_file = Path(argument).expanduser().exists() or not argument.isidentifier()
    if is_file:
        # A row that is left out would put its neighbours a step closer than they are.
        table = open_table(recipe.source, argument, skips_bad=False)
    else:
        table = bundled_series(recipe.source, argument)
    names = _columns(table, recipe)
    key = {"version": _VERSION, "table": table.stats, "columns": names, "skips": recipe.skips_bad_samples}
    on_progress("reading the series")
    prepared = open_prepared(cache, "series", key, lambda folder: _prepare(table, names, recipe, folder))
    rows = prepared.samples(series="series")
    series_NF = rows.arrays["series"]
    T, H = recipe.context, recipe.horizon
    starts = split_in_time(len(series_NF), recipe)
    values_WH = np.lib.stride_tricks.sliding_window_view(series_NF[T:, 0], H)
    is_whole_W = _is_whole(np.isfinite(series_NF).all(1), T + H)
    parts = {
        split: Part(WindowSamples(rows, T), values=values_WH).take(own[is_whole_W[own]])
        for split, own in starts.items()
    }
    return Source(
        shape=DataShape(inputs="series", context=T, num_features=len(names), num_outputs=H),
        train=parts["train"],
        val=parts["val"],
        test=parts.get("test"),
        is_carved=True,
        content_hash=prepared.meta.content_hash,
        num_bad_samples=prepared.meta.num_bad_samples,
        notes=prepared.meta.notes,
    )


def split_in_time(num_rows: int, recipe: DataRecipe) -> dict[str, npt.NDArray[np.intp]]:
    """Return the row at which each window of each split begins.

    Validation and test are the last `data.val_frac` and `data.test_frac` of the rows; a window belongs to the split in which
    all that it is to predict stands, and to none when that straddles two.

    Raises:
        DataError: A split is too short for a single window.

    Example:
        >>> recipe = DataRecipe(context=3, horizon=2, val_frac=0.2)
        >>> {split: starts.tolist() for split, starts in split_in_time(10, recipe).items()}
        {'train': [0, 1, 2, 3], 'val': [5]}
    """
    T, H = recipe.context, recipe.horizon
    num_test = round(recipe.test_frac * num_rows)
    num_val = max(1, round(recipe.val_frac * num_rows))
    bounds = {
        "train": (T, num_rows - num_val - num_test),
        "val": (num_rows - num_val - num_test, num_rows - num_test),
    }
    if recipe.test_frac:
        bounds["test"] = (num_rows - num_test, num_rows)
    starts = {}
    for split, (first, end) in bounds.items():
        first_target = max(T, first)
        starts[split] = np.arange(first_target - T, max(first_target, end - H + 1) - T)
        if not len(starts[split]):
            key = {"train": "context", "val": "val_frac", "test": "test_frac"}[split]
            works = {"context": max(2, (end - H) // 2)}.get(key, f"{min(0.49, (H + 0.5) / num_rows):.2g}")
            raise DataError(
                f"data.source '{recipe.source}' is too short: of its {num_in(num_rows, 'row')} {max(0, end - first):,} can be "
                f"predicted in the {split} split, and a window with context {T} and horizon {H} needs {H}.",
                hint=f"--set data.{key}={works}   or a shorter data.horizon",
            )
    return starts


def _is_whole(is_present_N: npt.NDArray[np.bool_], length: int) -> npt.NDArray[np.bool_]:
    """Return whether all rows of the window that begins at each row are there."""
    num_missing = np.concatenate([[0], np.cumsum(~is_present_N)])
    is_whole: npt.NDArray[np.bool_] = num_missing[length:] == num_missing[:-length]
    return is_whole


def _columns(table: Table, recipe: DataRecipe) -> tuple[str, ...]:
    """Return the target and the other columns."""
    target = table.target(recipe)
    others = tuple(table.require(name, "columns") for name in recipe.columns or () if name != target)
    return (target, *others)


def _prepare(table: Table, names: tuple[str, ...], recipe: DataRecipe, folder: Path) -> PreparedMeta:
    digest, num_bad, num_rows = sha256(repr(names).encode()), 0, 0
    with closing(NpyWriter(folder / "series.npy")) as writer:
        for rows in table.chunks():
            if rows.split is not None:
                raise DataError(
                    f"data.source '{table.source}': a series is split in time, and {rows.file} is the {rows.split} split.",
                    hint=f"--set data.source=series:{rows.file}",
                )
            series_BF = _numbers(rows, names, skips_bad=recipe.skips_bad_samples)
            num_bad += int(np.isnan(series_BF).any(1).sum())
            num_rows += len(series_BF)
            digest.update(series_BF.tobytes())
            writer.append(series_BF)
    if num_bad == num_rows:
        raise DataError(
            f"data.source '{table.source}' has no row with a number in {', '.join(map(repr, names))}."
        )
    notes = (f"windows over {num_in(num_bad, 'row')} without a number are left out",) if num_bad else ()
    return PreparedMeta(content_hash=digest.hexdigest()[:16], num_bad_samples=num_bad, notes=notes)


def _numbers(rows: Rows, names: tuple[str, ...], *, skips_bad: bool) -> npt.NDArray[np.float32]:
    series_BF = np.full((len(rows), len(names)), np.nan, np.float32)
    for column, name in enumerate(names):
        for index, cell in enumerate(rows.columns[name]):
            if not is_missing(cell):
                series_BF[index, column] = as_number(cell, name, partial(rows.place, index))
            elif not skips_bad:
                raise DataError(
                    f"column {name!r} has no number at {rows.place(index)}.",
                    hint="--set data.skips_bad_samples=true   to leave out the windows that it is in",
                )
    return series_BF
