"""Text columns of tables, read with Hugging Face `datasets` (an extra)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kleiber.data.passages import Passage
from kleiber.data.text_spool import TextSpool
from kleiber.errors import DataError, MissingExtraError, nearest

__all__ = ["TABLE_SUFFIXES", "read_table"]

_BUILDERS = {".jsonl": "json", ".parquet": "parquet"}
TABLE_SUFFIXES = frozenset(_BUILDERS)
"""Files that hold one document a row."""


def read_table(path: Path, name: str, field: str, spool: TextSpool) -> Iterator[Passage]:
    """Yield the text of every row.

    Args:
        path: A `.jsonl` or `.parquet` file.
        name: Its name in the source.
        field: The column that holds the text.
        spool: Where the texts go.

    Raises:
        DataError: The file does not parse, has no such column, or a value in it is not a text.
        MissingExtraError: `datasets` is not installed.
    """
    for number, row in enumerate(_rows(path)):
        if field not in row:
            raise DataError(
                f"data.field: {path} has no column {field!r}. {nearest(field, row)}",
                hint=f"--set data.field={next(iter(row), 'text')}",
            )
        if not isinstance(row[field], str):
            raise DataError(
                f"data.field: column {field!r} of {path} must hold text, and row {number} does not.",
                got=type(row[field]).__name__,
            )
        yield Passage(f"{name}#{number}", spool.put([row[field]]))


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if not path.stat().st_size:
        return  # `datasets` stumbles over a file without a row
    try:
        import datasets  # noqa: PLC0415 - an extra, and a second to import
    except ImportError:
        raise MissingExtraError.of("datasets", "data", f"Reading {path.name}") from None
    try:
        # Streaming reads the file in place; otherwise a second copy would stay in the cache of `datasets`.
        yield from datasets.load_dataset(
            _BUILDERS[path.suffix.lower()], data_files=str(path), split="train", streaming=True
        )
    except (ValueError, OSError, datasets.exceptions.DatasetsError) as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path} is not a whole {path.suffix} file: {first_line}.") from None
