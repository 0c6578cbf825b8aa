"""The cells of a table as text, whatever file it is in."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kleiber.errors import DataError, MissingExtraError

__all__ = ["TABLES", "read_cells"]

TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
"""Endings of files that hold a table."""

_EXTRA = "extra"
"""A column of further cells, written k=v;k=v."""

Cells = list[tuple[str, dict[str, str]]]
"""Of each line: file and line, then its cells by column."""


def read_cells(path: Path) -> tuple[list[str], Cells]:
    """Return the names of the columns, keys of `extra` among them, and the cells of every line.

    Args:
        path: UTF-8 text whose first line names the columns (`.csv`, tabs in `.tsv`), one JSON object a line (`.jsonl`), or
            parquet.

    Raises:
        DataError: The file cannot be read, is empty, or has a line of another shape.
        MissingExtraError: A parquet file without pyarrow.
    """
    try:
        if path.suffix == ".parquet":
            header, lines = _parquet(path)
        elif path.suffix == ".jsonl":
            header, lines = _json_lines(path)
        else:
            header, lines = _separated(path, "\t" if path.suffix == ".tsv" else ",")
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror or error}.",
            hint="kleiber fit rows.csv   or kleiber fit runs/demo/ladder",
        ) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a table in UTF-8 text: {error}.") from None
    if not any(header):
        raise DataError(f"{path} is empty: its first line must name the columns.", hint="params,tokens,loss")
    return _with_extra(header, lines)


def _separated(path: Path, delimiter: str) -> tuple[list[str], Cells]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream, delimiter=delimiter, strict=True)
        header = [name.strip() for name in next(reader, [])]
        return header, list(_csv_lines(path, header, reader)) if any(header) else []


def _csv_lines(path: Path, header: list[str], reader: Any) -> Iterator[tuple[str, dict[str, str]]]:
    for cells in reader:
        where = f"{path} line {reader.line_num}"
        if cells and len(cells) != len(header):
            raise DataError(f"{where} must have {len(header)} cells, as the first line has.", got=len(cells))
        if cells:
            yield where, dict(zip(header, cells, strict=True))


def _json_lines(path: Path) -> tuple[list[str], Cells]:
    lines: Cells = []
    with path.open(encoding="utf-8-sig") as stream:
        for number, text in enumerate(stream, start=1):
            if not text.strip():
                continue
            where = f"{path} line {number}"
            try:
                raw = json.loads(text)
            except (json.JSONDecodeError, RecursionError) as error:
                raise DataError(f"{where} is not JSON: {error}.") from None
            if not isinstance(raw, dict):
                raise DataError(
                    f"{where} must hold one object of columns and values.", got=type(raw).__name__
                )
            lines.append((where, {name: _text(value, where, name) for name, value in raw.items()}))
    return list(dict.fromkeys(name for _, cells in lines for name in cells)), lines


def _parquet(path: Path) -> tuple[list[str], Cells]:
    try:
        from pyarrow import ArrowException, parquet  # noqa: PLC0415 - an extra
    except ImportError:
        raise MissingExtraError.of("pyarrow", "data", "A table in parquet") from None
    if not path.is_file():
        raise FileNotFoundError(2, "No such file or directory")
    try:
        table = parquet.read_table(path)
    except (ArrowException, ValueError) as error:
        raise DataError(
            f"{path} is not a parquet file that can be read: {str(error).splitlines()[0]}."
        ) from None
    rows = enumerate(table.to_pylist(), start=1)
    lines = [
        (f"{path} row {k}", {name: _text(value, f"{path} row {k}", name) for name, value in row.items()})
        for k, row in rows
    ]
    return list(table.column_names), lines


def _text(value: object, where: str, name: str) -> str:
    """Return a value as a table would write it; null is an empty cell."""
    if value is None:
        return ""
    if isinstance(value, str | int | float):
        return str(value)
    raise DataError(f"{where}: {name} must be a number or a text.", got=value)


def _with_extra(header: list[str], lines: Cells) -> tuple[list[str], Cells]:
    """Return the table with the keys of `extra` as columns of their own, after its real ones."""
    if _EXTRA not in header:
        return header, lines
    names = dict.fromkeys(header)
    for _, cells in lines:
        for part in cells.get(_EXTRA, "").split(";"):
            name, is_pair, cell = (text.strip() for text in part.partition("="))
            if is_pair and name not in header:
                names[name] = None
                cells[name] = cell
    return list(names), lines
