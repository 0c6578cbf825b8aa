"""Time series that come with statsmodels (an extra), by name."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from functools import partial
from importlib import metadata
from typing import Any

from kleiber.data.table.table import Rows, Table
from kleiber.errors import DataError, MissingExtraError, nearest

__all__ = ["BUNDLED_SERIES", "bundled_series"]

BUNDLED_SERIES = (
    "co2",
    "copper",
    "danish_data",
    "interest_inflation",
    "macrodata",
    "nile",
    "sunspots",
)
"""Data sets of statsmodels whose rows follow each other in time."""


def bundled_series(source: str, name: str) -> Table:
    """Return a bundled series as a table.

    Raises:
        DataError: There is none of this name.
        MissingExtraError: `statsmodels` is not installed.
    """
    if name not in BUNDLED_SERIES:
        raise DataError(
            f"data.source '{source}': there is no file of this name, and no bundled series. "
            f"{nearest(name, BUNDLED_SERIES)}",
            hint="--set data.source=series:sunspots",
        )
    try:
        version = metadata.version("statsmodels")
    except metadata.PackageNotFoundError:
        raise MissingExtraError.of("statsmodels", "data", f"The bundled series '{name}'") from None
    frame: Any = importlib.import_module(f"statsmodels.datasets.{name}").load_pandas().data
    return Table(
        source=source,
        columns=tuple(map(str, frame.columns)),
        has_types=True,
        chunks=partial(_rows, frame, name),
        stats=((f"statsmodels {version} {name}", len(frame), 0),),
        classes={},
    )


def _rows(frame: Any, name: str) -> Iterator[Rows]:
    columns = {str(column): frame[column].tolist() for column in frame.columns}
    yield Rows(columns, name, "row", range(1, len(frame) + 1))
