"""Rows of .jsonl files: an object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from kleiber.data.table.files import TableFile
from kleiber.data.table.table import Rows, in_chunks
from kleiber.data.text_stream import text_lines
from kleiber.errors import DataError

__all__ = ["jsonl_columns", "jsonl_rows"]


def jsonl_columns(file: TableFile, *, skips_bad: bool) -> tuple[str, ...]:
    """Return the keys of all rows, in the order in which they are met.

    Raises:
        DataError: A line is no JSON object, or there is none.
    """
    columns = tuple(dict.fromkeys(key for _, row in _parsed(file, skips_bad=skips_bad) for key in row or ()))
    if not columns:
        raise DataError(
            f"{file.path} is empty: it has no row.", hint='a line such as {"text": "...", "label": 1}'
        )
    return columns


def jsonl_rows(file: TableFile, columns: tuple[str, ...], *, skips_bad: bool) -> Iterator[Rows]:
    """Yield the rows in chunks; a key that a row lacks is None.

    Args:
        file: The file.
        columns: The keys to read.
        skips_bad: Whether lines that are no JSON object are counted and left out.

    Raises:
        DataError: A line is no JSON object.
    """
    for numbers, rows, num_bad in in_chunks(_parsed(file, skips_bad=skips_bad)):
        yield _chunk(file, columns, numbers, rows, num_bad)


def _chunk(
    file: TableFile, columns: tuple[str, ...], numbers: list[int], rows: list[dict[str, Any]], num_bad: int
) -> Rows:
    cells = {column: [row.get(column) for row in rows] for column in columns}
    return Rows(cells, str(file.path), "line", numbers, file.split, num_bad)


def _parsed(file: TableFile, *, skips_bad: bool) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Yield the number of each line that is not blank, from 1 on, and its object; None for a bad one."""
    for number, line in enumerate(text_lines(file.path), start=1):
        if not line.strip():
            continue
        try:
            row, reason = json.loads(line), "it holds no object"
        except ValueError as error:
            row, reason = None, str(error)
        if isinstance(row, dict):
            yield number, row
        elif skips_bad:
            yield number, None
        else:
            raise DataError(
                f"line {number} of {file.path} is no JSON object: {reason}.",
                hint="mend the line, or --set data.skips_bad_samples=true",
            )
