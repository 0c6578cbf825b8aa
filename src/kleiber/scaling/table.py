"""Tables of runs: which column is which, and numbers that say where they stand when they are wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from kleiber.errors import DataError, UsageError, nearest
from kleiber.scaling.cells import TABLES, read_cells
from kleiber.units import parse_count

__all__ = ["TABLES", "Columns", "Line", "read_table"]


@dataclass(frozen=True)
class Columns:
    """Names of a table's columns; those left None are found by their common names."""

    params: str | None = None
    """All parameters of a model."""
    tokens: str | None = None
    """Training tokens, repeats included."""
    loss: str | None = None
    """[nats/token], or an accuracy."""
    body: str | None = None
    """Parameters without embedding and head."""
    active_params: str | None = None
    """Parameters that work on a token, in a mixture of experts."""
    unique_tokens: str | None = None
    """Different training tokens."""
    flops: str | None = None
    """Training compute; without it 6 N D."""
    run: str | None = None
    """The run's name."""
    trunk: str | None = None
    """What rows that share steps have in common; without it each row stands for itself."""
    seed: str | None = None
    eval_hash: str | None = None
    """Of the evaluation set."""
    vocab_size: str | None = None
    """Entries of the tokenizer, which tell an impossible loss."""
    learning_rate: str | None = None
    """For laws of hyper-parameters, which alone look for its common names."""
    batch: str | None = None
    """Likewise."""


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
    "active_params": ("active_params", "num_active_params", "activated_params"),
    "unique_tokens": ("unique_tokens", "num_unique_tokens"),
    "flops": ("flops", "train_flops", "training_flops", "compute", "c"),
    "run": ("run", "run_name", "name", "id"),
    "trunk": ("trunk",),
    "seed": ("seed",),
    "eval_hash": ("eval_hash",),
    "vocab_size": ("vocab_size", "vocabulary_size"),
    "learning_rate": (),
    "batch": (),
}
_ACCURACIES = ("accuracy", "acc", "val_accuracy", "val_acc", "test_accuracy", "test_acc")
"""Common names of the column that a law of accuracies takes."""
_STEMS = {
    "params": ("param", "size"),
    "tokens": ("token",),
    "loss": ("loss", "acc", "nll", "entropy"),
    "accuracy": ("acc",),
}
"""What the name of a required column holds, for a hint."""


@dataclass(frozen=True)
class Line:
    """One line of a table, its cells by our names."""

    where: str
    """File and line, for errors."""
    cells: dict[str, str]
    every: Mapping[str, str]
    """All cells by the table's own names, and by ours; what `extra` holds as k=v;k=v by k."""
    columns: Mapping[str, str]
    """Our names and the table's."""

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


def read_table(
    path: Path, columns: Columns, required: tuple[str, ...], *, is_accuracy: bool = False
) -> Iterator[Line]:
    """Yield the lines of a table.

    Args:
        path: CSV, TSV, JSON lines or parquet.
        columns: Which column is which; a key of `extra` is a column too.
        required: Fields of `Columns` that must be there.
        is_accuracy: `loss` is to be an accuracy, and is found by such a name.

    Raises:
        DataError: The file cannot be read, is empty, lacks a column or has a line of another length.
        MissingExtraError: A parquet file without pyarrow.
    """
    header, lines = read_cells(path)
    common = _COMMON_NAMES | ({"loss": _ACCURACIES} if is_accuracy else {})
    places = _places(path, header, columns, required, common)
    for where, cells in lines:
        named = {name: cells.get(column, "").strip() for name, column in places.items()}
        yield Line(where, named, {**dict.fromkeys(header, ""), **cells, **named}, places)


def _places(
    path: Path,
    header: list[str],
    columns: Columns,
    required: tuple[str, ...],
    common: Mapping[str, tuple[str, ...]],
) -> dict[str, str]:
    places: dict[str, str] = {}
    missing = []
    for field in fields(Columns):
        place = _place(path, header, field.name, getattr(columns, field.name), common[field.name])
        if place is not None:
            places[field.name] = place
        elif field.name in required:
            missing.append(field.name)
    for name in missing:
        free = [column for column in header if column not in places.values()]
        what = "accuracy" if name == "loss" and common[name] == _ACCURACIES else name
        raise DataError(
            f"{path} has no column for {what}; it has {', '.join(header)}.",
            hint=f"--columns {name}={_likely(what, free or header)}   (the column that holds it)",
        )
    return places


def _likely(field: str, columns: list[str]) -> str:
    """Return the column that may hold a field by its name, else the first.

    Example:
        >>> _likely("loss", ["step", "loss_bits"]), _likely("params", ["step"])
        ('loss_bits', 'step')
    """
    stems = _STEMS.get(field, ())
    return next((name for name in columns if any(stem in name.lower() for stem in stems)), columns[0])


def _place(
    path: Path, names: list[str], field: str, asked: str | None, common_names: tuple[str, ...]
) -> str | None:
    """Return which column it is, None when it was not named and has no common name."""
    if asked is not None:
        if asked not in names:
            raise DataError(
                f"{path} has no column {asked!r}, which was named for {field}. {nearest(asked, names)}"
            )
        return asked
    common = [name for name in names if name.lower().replace(" ", "_") in common_names]
    if len(common) > 1:
        raise DataError(
            f"{path} has several columns that could hold {field}: {', '.join(common)}.",
            hint=f"--columns {field}={common[0]}",
        )
    return common[0] if common else None
