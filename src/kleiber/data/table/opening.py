"""From the files of a source to its table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from kleiber.data.prepared import file_stats
from kleiber.data.table.csv_rows import csv_columns, csv_rows
from kleiber.data.table.files import TableFile, table_files
from kleiber.data.table.jsonl_rows import jsonl_columns, jsonl_rows
from kleiber.data.table.parquet_rows import parquet_columns, parquet_rows
from kleiber.data.table.table import Rows, Table
from kleiber.data.text_stream import inner_suffix
from kleiber.errors import DataError

__all__ = ["SUFFIXES", "open_table"]

_Columns = Callable[[TableFile], tuple[str, ...]]
_Reader = Callable[[TableFile, tuple[str, ...]], Iterator[Rows]]

SUFFIXES: dict[str, tuple[str, ...]] = {
    "csv": (".csv", ".tsv"),
    "jsonl": (".jsonl",),
    "parquet": (".parquet",),
    "pairs": (".csv", ".tsv", ".jsonl", ".parquet"),
    "series": (".csv", ".tsv", ".jsonl", ".parquet"),
}
"""Files that each kind of source reads."""


def open_table(source: str, argument: str, *, skips_bad: bool) -> Table:
    """Return the table of a source, of which only the columns have been read.

    Args:
        source: What the user typed: `csv:PATH` and the like.
        argument: The path.
        skips_bad: Whether rows that do not parse are counted and left out.

    Raises:
        DataError: Nothing is there, it does not parse, or its files have different columns.
        MissingExtraError: The format needs a package that is not installed.
    """
    files = table_files(source, argument, SUFFIXES[source.partition(":")[0]])
    try:
        columns = _shared_columns(source, files, skips_bad=skips_bad)
    except OSError as error:
        raise DataError(_unreadable(source, error)) from None
    return Table(
        source=source,
        columns=columns,
        has_types=inner_suffix(files[0].path.name) not in {".csv", ".tsv"},
        chunks=partial(_chunks, source, files, columns, skips_bad=skips_bad),
        stats=tuple(file_stats(file.path for file in files)),
        classes={},
    )


def _chunks(
    source: str, files: tuple[TableFile, ...], columns: tuple[str, ...], *, skips_bad: bool
) -> Iterator[Rows]:
    for file in files:
        _, read = _format(file, skips_bad=skips_bad)
        try:
            yield from read(file, columns)
        except OSError as error:
            raise DataError(_unreadable(source, error)) from None


def _shared_columns(source: str, files: tuple[TableFile, ...], *, skips_bad: bool) -> tuple[str, ...]:
    known: tuple[str, ...] = ()
    for file in files:
        read, _ = _format(file, skips_bad=skips_bad)
        own = read(file)
        if not known or own == known:
            known = own
        elif inner_suffix(file.path.name) == ".jsonl":  # objects may lack keys
            known = tuple(dict.fromkeys((*known, *own)))
        elif set(own) == set(known):
            raise DataError(
                f"data.source '{source}': {file.path.name} has the columns of {files[0].path.name} in another order.",
                got=list(own),
                hint=f"put them in the order {', '.join(known)}",
            )
        else:
            odd = next(name for name in (*known, *own) if (name in own) != (name in known))
            raise DataError(
                f"data.source '{source}': {files[0].path.name} and {file.path.name} must have the same columns, and "
                f"only one of them has {odd!r}.",
                hint="give all files the same header, or name one file",
            )
    return known


def _format(file: TableFile, *, skips_bad: bool) -> tuple[_Columns, _Reader]:
    formats: dict[str, tuple[_Columns, _Reader]] = {
        ".csv": (csv_columns, partial(csv_rows, skips_bad=skips_bad)),
        ".tsv": (csv_columns, partial(csv_rows, skips_bad=skips_bad)),
        ".jsonl": (partial(jsonl_columns, skips_bad=skips_bad), partial(jsonl_rows, skips_bad=skips_bad)),
        ".parquet": (parquet_columns, parquet_rows),
    }
    return formats[inner_suffix(file.path.name)]


def _unreadable(source: str, error: OSError) -> str:
    return f"data.source '{source}': {error.filename or 'a file'} cannot be read: {error.strerror or error}."
