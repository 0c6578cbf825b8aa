"""Tables of runs as CSV: which column is which, and numbers that say where they stand when they are wrong."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from kleiber.errors import DataError, UsageError, nearest
from kleiber.units import parse_count

__all__ = ["Columns", "Line", "read_table"]


@dataclass(frozen=True)
class Columns:
    """Names of a table's columns; those left None are found by their common names."""

    params: str | None = None
    """All parameters of a model."""
    tokens: str | None = None
    """Training tokens, repeats included."""
    loss: str | None = None
    """[nats/token]"""
    body: str | None = None
    """Parameters without embedding and head."""
    unique_tokens: str | None = None
    """Different training tokens."""
    run: str | None = None
    """The run's name."""
    trunk: str | None = None
    """What rows that share steps have in common; without it each row stands for itself."""
    seed: str | None = None
    eval_hash: str | None = None
    """Of the evaluation set."""


_COMMON_NAMES: dict[str, tuple[str, ...]] = {
    "params": (
        "params",
        "num_params",
        "n_params",
        "parameters",
        "num_parameters",
        "total_params",
        "model_size",
        "n",
    ),
    "tokens": ("tokens", "num_tokens", "n_tokens", "train_tokens", "training_tokens", "d"),
    "loss": ("loss", "val_loss", "validation_loss", "eval_loss", "test_loss", "final_loss"),
    "body": ("params_non_embedding", "non_embedding_params", "num_params_body", "body"),
    "unique_tokens": ("unique_tokens", "num_unique_tokens"),
    "run": ("run", "run_name", "name", "id"),
    "trunk": ("trunk",),
    "seed": ("seed",),
    "eval_hash": ("eval_hash",),
}


@dataclass(frozen=True)
class Line:
    """One line of a table, its cells by our names."""

    where: str
    """File and line, for errors."""
    cells: dict[str, str]

    def text(self, name: str) -> str | None:
        """Return a cell, None when it is empty or has no column."""
        return self.cells.get(name) or None

    def number(self, name: str) -> float:
        """Return a cell that must hold a positive number.

        Raises:
            DataError: It does not.
        """
        cell = self.cells.get(name, "")
        try:
            return parse_count(cell, name)
        except UsageError:
            raise DataError(f"{self.where}: {name} must be a positive number.", got=cell) from None

    def number_or_none(self, name: str) -> float | None:
        """Return a cell that may be empty."""
        return self.number(name) if self.text(name) else None


def read_table(path: Path, columns: Columns, required: tuple[str, ...]) -> Iterator[Line]:
    """Yield the lines of a CSV file (tabs in `.tsv`).

    Args:
        path: UTF-8 text whose first line names the columns.
        columns: Which column is which.
        required: Fields of `Columns` that must be there.

    Raises:
        DataError: The file cannot be read, is empty, lacks a column or has a line of another length.
    """
    delimiter = "\t" if path.suffix == ".tsv" else ","
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, delimiter=delimiter, strict=True)
            header = next(reader, [])
            places = _places(path, header, columns, required)
            for cells in reader:
                if cells:
                    yield _line(f"{path} line {reader.line_num}", header, cells, places)
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}.",
            hint="kleiber fit rows.csv   or kleiber fit runs/demo/ladder",
        ) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a table in UTF-8 text: {error}.") from None


def _line(where: str, header: list[str], cells: list[str], places: dict[str, int]) -> Line:
    if len(cells) != len(header):
        raise DataError(f"{where} must have {len(header)} cells, as the first line has.", got=len(cells))
    return Line(where, {name: cells[place].strip() for name, place in places.items()})


def _places(path: Path, header: list[str], columns: Columns, required: tuple[str, ...]) -> dict[str, int]:
    if not any(name.strip() for name in header):
        raise DataError(f"{path} is empty: its first line must name the columns.", hint="params,tokens,loss")
    names = [name.strip() for name in header]
    places = {}
    for field in fields(Columns):
        place = _place(path, names, field.name, getattr(columns, field.name))
        if place is not None:
            places[field.name] = place
        elif field.name in required:
            raise DataError(
                f"{path} has no column for {field.name}; it has {', '.join(names)}.",
                hint=f"--columns {field.name}={names[0]}   (the column that holds it)",
            )
    return places


def _place(path: Path, names: list[str], field: str, asked: str | None) -> int | None:
    """Return where a column stands, None when it was not named and has no common name."""
    if asked is not None:
        if asked not in names:
            raise DataError(
                f"{path} has no column {asked!r}, which was named for {field}. {nearest(asked, names)}"
            )
        return names.index(asked)
    common = [k for k, name in enumerate(names) if name.lower().replace(" ", "_") in _COMMON_NAMES[field]]
    if len(common) > 1:
        found = ", ".join(names[k] for k in common)
        raise DataError(
            f"{path} has several columns that could hold {field}: {found}.",
            hint=f"--columns {field}={names[common[0]]}",
        )
    return common[0] if common else None
