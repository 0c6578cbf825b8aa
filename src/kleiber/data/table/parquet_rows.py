"""Rows of .parquet files, read with pyarrow (an extra)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kleiber.data.table.files import TableFile
from kleiber.data.table.table import CHUNK_ROWS, Rows
from kleiber.errors import DataError, MissingExtraError

__all__ = ["parquet_columns", "parquet_rows"]


def parquet_columns(file: TableFile) -> tuple[str, ...]:
    """Return the names of the columns.

    Raises:
        DataError: The file is torn or no parquet.
        MissingExtraError: `pyarrow` is not installed.
    """
    return tuple(_opened(file).schema_arrow.names)


def parquet_rows(file: TableFile, columns: tuple[str, ...]) -> Iterator[Rows]:
    """Yield the rows in chunks; cells are of the types that the file says.

    Raises:
        DataError: The file is torn or no parquet.
        MissingExtraError: `pyarrow` is not installed.
    """
    first = 1
    for batch in _batches(file, columns):
        numbers = range(first, first + batch.num_rows)
        first += batch.num_rows
        yield Rows(batch.to_pydict(), str(file.path), "row", numbers, file.split)


def _batches(file: TableFile, columns: tuple[str, ...]) -> Iterator[Any]:
    import pyarrow as pa  # noqa: PLC0415 - an extra, and _opened has asked for it

    opened = _opened(file)
    try:
        yield from opened.iter_batches(batch_size=CHUNK_ROWS, columns=list(columns))
    except (pa.ArrowException, OSError) as error:
        raise _torn(file, error) from None


def _opened(file: TableFile) -> Any:
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra
        import pyarrow.parquet as pq  # noqa: PLC0415 - the same
    except ImportError:
        raise MissingExtraError.of("pyarrow", "data", f"Reading {file.path.name}") from None
    try:
        return pq.ParquetFile(file.path)
    except (pa.ArrowException, OSError) as error:
        raise _torn(file, error) from None


def _torn(file: TableFile, error: Exception) -> DataError:
    return DataError(
        f"{file.path} is not a whole .parquet file: {str(error).splitlines()[0].rstrip('.')}.",
        hint=f"frame.to_parquet('{file.path.name}')   writes one, with pandas",
    )
