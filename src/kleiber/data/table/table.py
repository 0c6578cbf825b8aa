"""A table of samples: rows read a chunk at a time, as often as they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from kleiber.data.data import Split
from kleiber.errors import DataError, nearest
from kleiber.runs.recipe import DataRecipe

__all__ = ["CHUNK_ROWS", "Rows", "Table", "in_chunks", "is_missing"]

CHUNK_ROWS = 4096
"""Rows of a file that memory holds at a time."""

_MISSING = frozenset({"", "?", "na", "n/a", "nan", "null", "none"})


T = TypeVar("T")


def in_chunks(rows: Iterable[tuple[int, T | None]]) -> Iterator[tuple[list[int], list[T], int]]:
    """Yield rows a chunk at a time: where they stand, the rows, and how many bad ones were left out among them.

    Args:
        rows: Number and content of each; None is a bad one.

    Example:
        >>> list(in_chunks([(1, "a"), (2, None), (4, "b")]))
        [([1, 4], ['a', 'b'], 1)]
    """
    numbers: list[int] = []
    good: list[T] = []
    num_bad = 0
    for number, row in rows:
        if row is None:
            num_bad += 1
            continue
        numbers.append(number)
        good.append(row)
        if len(good) == CHUNK_ROWS:
            yield numbers, good, num_bad
            numbers, good, num_bad = [], [], 0
    if good or num_bad:
        yield numbers, good, num_bad


@dataclass(frozen=True)
class Rows:
    """Some rows of a file."""

    columns: Mapping[str, Sequence[object]]
    """Cells by column: texts, numbers, truth values, None."""
    file: str
    unit: str
    """What the numbers count: `line` or `row`."""
    numbers: Sequence[int]
    """Where each row stands in the file, from 1 on."""
    split: Split | None = None
    """That the file belongs to."""
    num_bad: int = 0
    """Rows left out here because they do not parse."""

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.numbers)

    def place(self, index: int) -> str:
        """Return where a row stands, for a sentence.

        Example:
            >>> Rows({"a": [1, 2]}, "b.csv", "line", [2, 3]).place(1)
            'line 3 of b.csv'
        """
        return f"{self.unit} {self.numbers[index]} of {self.file}"


@dataclass(frozen=True)
class Table:
    """Rows of one or more files with the same columns."""

    source: str
    """What the user typed."""
    columns: tuple[str, ...]
    has_types: bool
    """Whether the file itself says what is a number and what a text; in a .csv, all is text."""
    chunks: Callable[[], Iterator[Rows]]
    """Reads the rows from the start, in the same order and the same chunks each time."""
    stats: tuple[tuple[str, int, int], ...]
    """Path, size [bytes] and time of change [ns] of each file: what tells that nothing changed."""
    classes: Mapping[str, tuple[str, ...]]
    """Names by label of the columns that the source itself says hold labels."""

    def require(self, column: str, key: str) -> str:
        """Return the column, which `data.<key>` names.

        Raises:
            DataError: The table has no such column.
        """
        if column not in self.columns:
            raise DataError(
                f"data.{key}: '{self.source}' has no column {column!r}. {nearest(column, self.columns)}",
                hint=f"--set 'data.columns=[{', '.join(self.columns[:-1])}]'"
                if key == "columns"
                else f"--set data.{key}={self.columns[-1]}",
            )
        return column

    def target(self, recipe: DataRecipe) -> str:
        """Return the column to predict: the one that is named, or the last.

        Raises:
            DataError: There is no such column.
        """
        return self.columns[-1] if recipe.target is None else self.require(recipe.target, "target")


def is_missing(cell: object) -> bool:
    """Return whether a cell says nothing: None, NaN, or a text such as "" and "?" and "NA".

    Example:
        >>> is_missing(" N/A "), is_missing(float("nan")), is_missing(0), is_missing("0")
        (True, True, False, False)
    """
    if isinstance(cell, str):
        return cell.strip().casefold() in _MISSING
    return cell is None or (isinstance(cell, float) and cell != cell)  # noqa: PLR0124 - NaN is not itself
