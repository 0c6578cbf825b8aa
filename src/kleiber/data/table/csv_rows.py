"""Rows of .csv and .tsv files."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from itertools import chain
from typing import Any

from kleiber.data.table.files import TableFile
from kleiber.data.table.table import Rows, in_chunks, is_missing
from kleiber.data.text_stream import inner_suffix, text_lines
from kleiber.errors import DataError

__all__ = ["csv_columns", "csv_rows"]

_DELIMITERS = ",;\t|"


def csv_columns(file: TableFile) -> tuple[str, ...]:
    """Return the names of the columns; `column_1` and so on where the first row is a sample.

    The first row is a header unless a cell of it is a number. A nameless column of a header is called by its number too.

    Raises:
        DataError: The file is empty, or two columns have one name.
    """
    first = next((row for _, row in _parsed(file)), None)
    if first is None:
        raise DataError(f"{file.path} is empty: it has no row.", hint="name a table with a header and rows")
    if not _is_header(first):
        return tuple(f"column_{number}" for number in range(1, len(first) + 1))
    names = tuple(name.strip() or f"column_{number}" for number, name in enumerate(first, start=1))
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{file.path} has two columns called {twice!r}.", hint="rename one in its first line")
    return names


def csv_rows(file: TableFile, columns: tuple[str, ...], *, skips_bad: bool) -> Iterator[Rows]:
    """Yield the rows in chunks; cells are texts without white space around them.

    A .tsv holds tabs between cells and no quotes (IANA text/tab-separated-values). A .csv is quoted as RFC 4180 says, and its
    delimiter is whichever of `, ; tab |` its first line has most of.

    Args:
        file: The file.
        columns: Its columns.
        skips_bad: Whether rows of another number of cells are counted and left out.

    Raises:
        DataError: A row has another number of cells, or a quote never ends.
    """
    for numbers, rows, num_bad in in_chunks(_whole(file, columns, skips_bad=skips_bad)):
        yield _chunk(file, columns, numbers, rows, num_bad)


def _whole(
    file: TableFile, columns: tuple[str, ...], *, skips_bad: bool
) -> Iterator[tuple[int, list[str] | None]]:
    """Yield line and cells of each row below the header; None of one with another number of cells."""
    for index, (number, row) in enumerate(_parsed(file)):
        if index == 0 and _is_header(row):
            continue
        if len(row) == len(columns):
            yield number, row
        elif skips_bad:
            yield number, None
        else:
            raise DataError(
                f"line {number} of {file.path} has {len(row)} cells, and the table has {len(columns)} columns.",
                got=_excerpt(row),
                hint="mend the line, or --set data.skips_bad_samples=true",
            )


def _chunk(
    file: TableFile, columns: tuple[str, ...], numbers: list[int], rows: list[list[str]], num_bad: int
) -> Rows:
    cells: Any = zip(*rows, strict=True) if rows else ([] for _ in columns)
    stripped = ([cell.strip() for cell in column] for column in cells)
    return Rows(
        dict(zip(columns, stripped, strict=True)), str(file.path), "line", numbers, file.split, num_bad
    )


def _parsed(file: TableFile) -> Iterator[tuple[int, list[str]]]:
    """Yield the line where each row ends, from 1 on, and its cells; blank lines are left out."""
    lines = text_lines(file.path)
    first = next(lines, "")
    whole = chain([first], lines)
    csv.field_size_limit(sys.maxsize)  # the module's own limit is shorter than many a text
    if inner_suffix(file.path.name) == ".tsv":
        reader = csv.reader(whole, delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        delimiter = max(_DELIMITERS, key=first.count)
        reader = csv.reader(whole, delimiter=delimiter, skipinitialspace=delimiter != "\t", strict=True)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield reader.line_num, row
    except csv.Error as error:
        raise DataError(
            f"{file.path} does not parse at line {reader.line_num}: {error}.",
            hint="check the quotes up to that line",
        ) from None


def _is_header(row: list[str]) -> bool:
    return not any(_is_number(cell) for cell in row)


def _is_number(cell: str) -> bool:
    if is_missing(cell):
        return False
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _excerpt(row: list[str]) -> str:
    """Return the beginning of a row, for an error."""
    text = " | ".join(row)
    return text if len(text) <= 80 else f"{text[:77]}..."
