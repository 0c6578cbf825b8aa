"""What the columns of a table hold, and how a row becomes features.

A column is of numbers when every cell that says something is a number; else of categories.

Shapes: B rows of a chunk, N training rows, C columns, F features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt

from kleiber.data.table.numbers import MAX_NUMBER, parse_number
from kleiber.data.table.table import Rows, Table, is_missing
from kleiber.errors import DataError
from kleiber.runs.document import Document

__all__ = ["MAX_CATEGORIES", "Column", "ColumnScan", "Features", "codes_of", "fit_columns", "scan_columns"]

MAX_CATEGORIES = 1000
"""A column of more different texts is no category but a name or a text."""


@dataclass
class ColumnScan:
    """What was met in a column so far."""

    name: str
    num_numbers: int = 0
    first_text: tuple[object, str] | None = None
    """The first cell that is no number, and where it stands."""
    categories: dict[str, int] = field(default_factory=dict)
    """A number for each different cell, in the order in which they are met."""

    @property
    def holds_numbers(self) -> bool:
        """Whether no cell is a text."""
        return self.first_text is None

    @property
    def note(self) -> str | None:
        """What a reader should know: that numbers were taken for categories."""
        if self.first_text is None or not self.num_numbers:
            return None
        text, place = self.first_text
        return f"column {self.name!r} is read as categories, for it holds numbers and {text!r} ({place})"


class Column(Document):
    """How one column becomes features."""

    name: str
    median: float | None = None
    """Of the numbers in the training rows: stands for what is missing. None of categories."""
    categories: tuple[str, ...] = ()
    """Of the training rows, sorted."""
    has_missing: bool = False
    """Whether a training row lacks it, so that a feature says whether it is missing."""

    @property
    def features(self) -> tuple[str, ...]:
        """Names of its features, in order.

        Example:
            >>> Column(name="age", median=30.0, has_missing=True).features
            ('age', 'age is missing')
            >>> Column(name="sex", categories=("f", "m")).features
            ('sex = f', 'sex = m', 'sex is new')
        """
        missing = (f"{self.name} is missing",) if self.has_missing else ()
        if self.median is not None:
            return (self.name, *missing)
        return (*(f"{self.name} = {text}" for text in self.categories), *missing, f"{self.name} is new")

    def encode(self, codes_B: npt.NDArray[np.float64], known: dict[str, int]) -> npt.NDArray[np.float32]:
        """Return the features [B, F of this column] of cells as `codes_of` gives them.

        Args:
            codes_B: Numbers, or numbers of categories; NaN is missing.
            known: Numbers of all categories that were met.
        """
        is_missing_B = np.isnan(codes_B)
        if self.median is not None:
            numbers_B = np.where(is_missing_B, self.median, codes_B)
            kept = [numbers_B, is_missing_B] if self.has_missing else [numbers_B]
            return np.stack(kept, 1).astype(np.float32)
        new = len(self.features) - 1
        place_of = np.full(len(known) + 1, new)
        place_of[[known[text] for text in self.categories]] = np.arange(len(self.categories))
        place_of[-1] = len(self.categories) if self.has_missing else new
        places_B = place_of[np.where(is_missing_B, -1, codes_B).astype(np.intp)]
        one_hot_BF = np.zeros((len(codes_B), new + 1), np.float32)
        one_hot_BF[np.arange(len(codes_B)), places_B] = 1
        return one_hot_BF


class Features(Document):
    """How a row becomes features: `columns.json` beside them."""

    columns: tuple[Column, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """One a feature [F]."""
        return tuple(name for column in self.columns for name in column.features)

    def encode(
        self, codes_BC: npt.NDArray[np.float64], scans: Sequence[ColumnScan]
    ) -> npt.NDArray[np.float32]:
        """Return the features [B, F] of rows as `codes_of` gives them."""
        return np.concatenate(
            [
                column.encode(codes_BC[:, index], scan.categories)
                for index, (column, scan) in enumerate(zip(self.columns, scans, strict=True))
            ],
            axis=1,
        )


def scan_columns(table: Table, names: Sequence[str]) -> tuple[ColumnScan, ...]:
    """Return what the columns hold, over all rows.

    Raises:
        DataError: A column is empty, holds what is neither number nor text, a number beyond float32, or too many texts.
    """
    scans = tuple(ColumnScan(name) for name in names)
    for rows in table.chunks():
        for scan in scans:
            _scan(scan, rows, has_types=table.has_types)
    empty = [scan.name for scan in scans if not scan.categories and not scan.num_numbers]
    if empty:
        raise DataError(
            f"'{table.source}' has empty columns: {', '.join(map(repr, empty))}.",
            hint=f"--set 'data.columns=[{', '.join(name for name in names if name not in empty) or 'COLUMN'}]'",
        )
    return scans


def _scan(scan: ColumnScan, rows: Rows, *, has_types: bool) -> None:
    for index, cell in enumerate(rows.columns[scan.name]):
        if is_missing(cell):
            continue
        number = parse_number(cell, has_types=has_types)
        if number is not None:
            scan.num_numbers += 1
            if not math.isfinite(number) or abs(number) > MAX_NUMBER:
                raise DataError(
                    f"column {scan.name!r} holds a number that is not finite in float32 at {rows.place(index)}.",
                    got=cell,
                    hint="mend the cell: empty, it is a missing one",
                )
        elif not isinstance(cell, str):
            raise DataError(
                f"column {scan.name!r} must hold numbers or categories, and holds a {type(cell).__name__} at "
                f"{rows.place(index)}.",
                hint="--set 'data.columns=[...]'   with the others",
            )
        elif scan.first_text is None:
            scan.first_text = (cell, rows.place(index))
        _add_category(scan, cell, partial(rows.place, index))


def _add_category(scan: ColumnScan, cell: object, place: partial[str]) -> None:
    if len(scan.categories) <= MAX_CATEGORIES:
        scan.categories.setdefault(str(cell).strip(), len(scan.categories))
    if len(scan.categories) > MAX_CATEGORIES and scan.first_text is not None:
        text, where = scan.first_text
        clue = f"; its first cell that is no number is {text!r} at {where}" if scan.num_numbers else ""
        raise DataError(
            f"column {scan.name!r} holds more than {MAX_CATEGORIES:,} different texts by {place()}{clue}.",
            hint=f"--set data.field={scan.name}   if it is a text to read, or data.columns=[...] with the others",
        )


def codes_of(rows: Rows, scans: Sequence[ColumnScan], *, has_types: bool) -> npt.NDArray[np.float64]:
    """Return the cells as numbers [B, C]: of categories, their numbers; NaN is missing."""
    codes_BC = np.full((len(rows), len(scans)), np.nan)
    for index, scan in enumerate(scans):
        for row, cell in enumerate(rows.columns[scan.name]):
            if not is_missing(cell):
                code = (
                    parse_number(cell, has_types=has_types)
                    if scan.holds_numbers
                    else scan.categories[str(cell).strip()]
                )
                codes_BC[row, index] = np.nan if code is None else code
    return codes_BC


def fit_columns(
    scans: Sequence[ColumnScan],
    codes_NC: npt.NDArray[np.float64],
    *,
    source: str,
) -> tuple[Column, ...]:
    """Return how these columns become features, by their training rows alone.

    Args:
        scans: What they hold [C].
        codes_NC: The training rows, as numbers.
        source: What the user typed, for errors.

    Raises:
        DataError: No training row has a value in one of them.
    """
    return tuple(_fit(scan, codes_NC[:, index], source) for index, scan in enumerate(scans))


def _fit(scan: ColumnScan, codes_N: npt.NDArray[np.float64], source: str) -> Column:
    is_missing_N = np.isnan(codes_N)
    if is_missing_N.all():
        raise DataError(
            f"column {scan.name!r} of '{source}' is empty in all training rows.",
            hint="--set 'data.columns=[...]'   with the others",
        )
    present = codes_N[~is_missing_N]
    if scan.holds_numbers:
        return Column(name=scan.name, median=float(np.median(present)), has_missing=bool(is_missing_N.any()))
    names = list(scan.categories)
    met = sorted(names[int(code)] for code in np.unique(present))
    return Column(name=scan.name, categories=tuple(met), has_missing=bool(is_missing_N.any()))
