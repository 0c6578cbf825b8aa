"""Sweeps of learning rate and batch: runs of one size and number of tokens, read from tables and run folders."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kleiber.errors import DataError, nearest
from kleiber.runs import Convention
from kleiber.scaling.forms import Array
from kleiber.scaling.rows import read_entries
from kleiber.scaling.table import Columns
from kleiber.scaling.units import TableUnit
from kleiber.scaling.where import number_of

__all__ = ["Sweep", "check_sweeps", "read_sweeps"]

_LEAST_SWEEPS = 4
_COMMON_NAMES = {
    "learning_rate": ("learning_rate", "lr", "peak_lr", "max_lr", "train.optimizer.lr"),
    "batch": ("batch", "batch_tokens", "batch_size", "bs", "bs_tokens", "bs_seq", "train.batch_size"),
}
"""Of tables, and last of the recipe that a run's record keeps."""


@dataclass(frozen=True)
class Sweep:
    """Runs of one size and number of tokens, each array [R]."""

    num_params: float
    num_tokens: float
    learning_rate: Array
    batch: Array
    """Of whatever unit the table has: a factor moves no exponent."""
    loss: Array

    @property
    def name(self) -> str:
        """Size and tokens, for messages."""
        return f"{self.num_params:.3g} parameters on {self.num_tokens:.3g} tokens"

    @property
    def is_lowest_at_edge(self) -> bool:
        """Whether the lowest run has the lowest or highest learning rate or batch that was tried."""
        lowest = int(self.loss.argmin())
        return any(
            values[lowest] in (values.min(), values.max()) for values in (self.learning_rate, self.batch)
        )


def read_sweeps(
    paths: Sequence[Path],
    columns: Columns | None = None,
    *,
    where: str | None = None,
    loss_unit: TableUnit = "nats",
    convention: Convention = "total",
    on_notice: Callable[[str], None] | None = None,
) -> list[Sweep]:
    """Return the sweeps of tables and run folders, one for each size and number of tokens.

    Args:
        paths: Run folders, folders of runs, tables.
        columns: Which column is which; of runs `learning_rate` and `batch` may name keys of the recipe.
        where: A `Condition` on rows: runs that diverged say nothing of the bowl.
        loss_unit: Of tables.
        convention: Which parameters a size counts.
        on_notice: Is told of runs that are left out for their forecast.

    Raises:
        DataError: There is no column for the learning rate or the batch, or a cell is no positive number; or as `read_rows`.
    """
    named = columns or Columns()
    found: dict[tuple[float, float], list[tuple[float, float, float]]] = {}
    for entry in read_entries(paths, named, where, loss_unit, on_notice):
        row = entry.row()
        rate = _positive(entry.names, "learning_rate", named.learning_rate, entry.where)
        batch = _positive(entry.names, "batch", named.batch, entry.where)
        key = (float(row.num_params.by(convention)), row.num_tokens)
        found.setdefault(key, []).append((rate, batch, row.loss))
    return [Sweep(*key, *np.array(runs).T) for key, runs in sorted(found.items())]


def _positive(names: Mapping[str, str], field: str, asked: str | None, where: str) -> float:
    """Return what a row has in the column of `field`."""
    if asked is not None and asked not in names:
        raise DataError(
            f"{where} has no column {asked!r}, which was named for {field}. {nearest(asked, names)}"
        )
    name = asked or next((common for common in _COMMON_NAMES[field] if common in names), None)
    if name is None:
        raise DataError(
            f"{where} has no column for {field}; it has {', '.join(names)}.",
            hint=f"--columns {field}=NAME   (the column that holds it)",
        )
    value = number_of(names[name])
    if value is None or not (math.isfinite(value) and value > 0):
        raise DataError(f"{where}: {name} must be a positive number.", got=names[name])
    return value


def check_sweeps(sweeps: Sequence[Sweep]) -> None:
    """Refuse sweeps that no law can be drawn through.

    Raises:
        DataError: Too few sweeps; one size or one number of tokens; both move together; a sweep of one rate or batch; or
            most are lowest at the edge of what they tried.
    """
    n, d = (np.log([getattr(one, name) for one in sweeps]) for name in ("num_params", "num_tokens"))
    if len(sweeps) < _LEAST_SWEEPS or len(np.unique(n)) < 2 or len(np.unique(d)) < 2:
        raise DataError(
            f"A law of hyper-parameters needs at least {_LEAST_SWEEPS} sweeps over two sizes and two numbers of tokens.",
            got=f"{len(sweeps)} over {len(np.unique(n))} and {len(np.unique(d))}",
        )
    if not is_determined(n, d):
        raise DataError(
            "Sizes and tokens move together in these sweeps, so that what each does to the best rate cannot be told apart.",
            hint="sweep one size at two numbers of tokens",
        )
    for field, what in (("learning_rate", "learning rate"), ("batch", "batch")):
        alone = [one for one in sweeps if len(np.unique(getattr(one, field))) < 3]
        if alone:
            raise DataError(
                f"{len(alone)} of {len(sweeps)} sweeps tried fewer than three values of the {what}, the first that of "
                f"{alone[0].name}: a lowest point between them cannot be seen.",
                hint="""--where 'params > 1e8'   (keeps the others)""",
            )
    edges = [one for one in sweeps if one.is_lowest_at_edge]
    if 2 * len(edges) > len(sweeps):
        raise DataError(
            f"{len(edges)} of {len(sweeps)} sweeps are lowest at the edge of what they tried, the first that of "
            f"{edges[0].name}: their best lies further out.",
            hint="try rates and batches beyond the best",
        )


def is_determined(log_n: Array, log_d: Array) -> bool:
    """Return whether a plane goes through points over these sizes and tokens in one way only."""
    design = np.stack([np.ones_like(log_n), log_n - log_n.mean(), log_d - log_d.mean()], axis=1)
    return int(np.linalg.matrix_rank(design, tol=1e-2)) == 3
