"""Rows of a table as a model was trained on them: by what was fitted to the columns of the run's table.

Shapes: B rows, C columns, F features.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kleiber.data import open_data
from kleiber.data.normalization import Normalization
from kleiber.data.prepared import MappedSamples
from kleiber.data.sample_data import SampleData
from kleiber.data.source import SubsetSamples
from kleiber.data.table.columns import Column, ColumnScan, Features
from kleiber.data.table.numbers import as_number
from kleiber.data.table.opening import SUFFIXES, open_table
from kleiber.data.table.table import Rows, is_missing
from kleiber.errors import DataError, nearest
from kleiber.runs import Recipe

__all__ = ["RowReader", "features_of", "fitted_columns"]

_KINDS = {suffix: kind for kind in ("csv", "jsonl", "parquet") for suffix in SUFFIXES[kind]}


def fitted_columns(recipe: Recipe) -> Features:
    """Return what was fitted to the columns of a run's table: medians, and categories in their order.

    It stands beside the prepared features; where they are not in the cache any more they are prepared again.

    Raises:
        DataError: The table is not where the run found it.
        MissingExtraError: Its format needs a package that is not installed.
    """
    data = open_data(recipe.data, seed=recipe.train.seed, task=recipe.task)
    samples = data.parts["train"].samples if isinstance(data, SampleData) else None
    whole = samples.whole if isinstance(samples, SubsetSamples) else samples
    if not isinstance(whole, MappedSamples):
        raise TypeError("the features of a table stand in files")
    return Features.read(whole.paths["features"].parent / "columns.json")


def features_of(columns: Sequence[Column], rows: Rows) -> npt.NDArray[np.float32]:
    """Return rows as features, [B, F].

    Args:
        columns: As they were fitted.
        rows: Cells of all of them, and of others that have no effect.

    Raises:
        DataError: A cell of a column of numbers holds none.

    Example:
        >>> age = Column(name="age", median=30.0)
        >>> sex = Column(name="sex", categories=("f", "m"))
        >>> features_of([age, sex], Rows({"age": ["4", ""], "sex": ["m", "x"]}, "a.csv", "line", [2, 3])).tolist()
        [[4.0, 0.0, 1.0, 0.0], [30.0, 0.0, 0.0, 1.0]]
    """
    return np.concatenate([_column(column, rows) for column in columns], axis=1)


def _column(column: Column, rows: Rows) -> npt.NDArray[np.float32]:
    scan = ColumnScan(column.name, categories={text: code for code, text in enumerate(column.categories)})
    codes_B = np.full(len(rows), np.nan)
    for index, cell in enumerate(rows.columns[column.name]):
        if is_missing(cell):
            continue
        if column.median is not None:
            codes_B[index] = _number(cell, column.name, rows, index)
        else:
            codes_B[index] = scan.categories.setdefault(str(cell).strip(), len(scan.categories))
    return column.encode(codes_B, scan.categories)


def _number(cell: object, name: str, rows: Rows, index: int) -> float:
    try:
        return as_number(cell, name, lambda: rows.place(index))
    except DataError as error:
        raise DataError(
            error.message, got=error.got, hint="mend the cell: empty, it is a missing one"
        ) from None


@dataclass(frozen=True)
class RowReader:
    """Reads a table as a sample a row; a column to predict, and others that the run did not use, have no effect."""

    features: Features
    normalization: Normalization

    suffixes: frozenset[str] = frozenset(_KINDS)

    def read(self, path: Path) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
        """Yield the features of each row, [F].

        Raises:
            DataError: The table does not parse, lacks a column, or a cell of a column of numbers holds none.
        """
        columns = self.features.columns
        table = open_table(f"{_KINDS[path.suffix.lower()]}:{path}", str(path), skips_bad=False)
        self._require_columns(table.columns, f"'{path}'")
        for rows in table.chunks():
            normalized_BF = self.normalization.apply(features_of(columns, rows))
            for index, features_F in enumerate(normalized_BF):
                yield rows.place(index), features_F

    def of(self, cells: Mapping[str, object], name: str) -> npt.NDArray[np.float32]:
        """Return the features of one row, [F].

        Args:
            cells: By column.
            name: What the row is called, for the error.

        Raises:
            DataError: A column is missing, or a cell of a column of numbers holds none.
        """
        self._require_columns(tuple(cells), name)
        rows = Rows({column: [cell] for column, cell in cells.items()}, name, "row", [1])
        features_F: npt.NDArray[np.float32] = self.normalization.apply(
            features_of(self.features.columns, rows)
        )[0]
        return features_F

    def _require_columns(self, known: Sequence[str], name: str) -> None:
        missing = next((column.name for column in self.features.columns if column.name not in known), None)
        if missing is not None:
            raise DataError(
                f"{name} must have the column {missing!r}, which the run learnt from. {nearest(missing, known)}",
                got=list(known),
            )
