"""Rows of a law: read from run folders and from tables, the ones that a condition keeps, in groups where asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from kleiber.errors import DataError, UsageError, nearest
from kleiber.runs import ParamCount, Row
from kleiber.scaling.entries import Entry, entries_of_runs
from kleiber.scaling.excluded import read_excluded
from kleiber.scaling.table import TABLES, Columns, Line, read_table
from kleiber.scaling.units import TableUnit, check_possible, check_unit_name
from kleiber.scaling.where import Condition

__all__ = ["read_entries", "read_groups", "read_points", "read_rows"]

_REQUIRED = ("params", "tokens", "loss")


def read_rows(
    paths: Sequence[Path],
    columns: Columns | None = None,
    *,
    where: str | None = None,
    loss_unit: TableUnit = "nats",
    vocab_size: int | None = None,
    drop_highest: int = 0,
    on_notice: Callable[[str], None] | None = None,
) -> list[Row]:
    """Return the rows that `paths` hold.

    Finished runs that ended with a cool-down count; a trunk, whose learning rate never fell, is not comparable. A
    run that started with a forecast is what a law is tested on: it is left out.

    Args:
        paths: Run folders, folders of runs, tables (CSV, TSV, JSON lines, parquet).
        columns: Which column of a table is which.
        where: A `Condition` on the cells of a table, or on a run: `params tokens loss ...` and the keys of its recipe.
        loss_unit: Of tables; bits become nats.
        vocab_size: Entries of the tokenizer: a loss above that of guessing is refused.
        drop_highest: Rows with the highest losses to leave out, such as runs that hardly trained.
        on_notice: Is told of runs that are left out for their forecast.

    Raises:
        DataError: A table cannot be read, a number in it is bad or impossible, or no finished run is there.
        RunFolderError: A folder holds no run, or a record is truncated.
        UsageError: `where` is wrong, or `drop_highest` leaves no row.
    """
    entries = read_entries(paths, columns, where, loss_unit, on_notice)
    return _drop(_rows(entries, loss_unit, vocab_size), drop_highest)


def read_groups(
    paths: Sequence[Path],
    by: str,
    columns: Columns | None = None,
    *,
    where: str | None = None,
    loss_unit: TableUnit = "nats",
    vocab_size: int | None = None,
    drop_highest: int = 0,
    on_notice: Callable[[str], None] | None = None,
) -> dict[str, list[Row]]:
    """Return the rows by what they have in the column `by`, in the order of the first of each; the rest as `read_rows`.

    Raises:
        UsageError: No row has such a column; or as `read_rows`.
    """
    groups: dict[str, list[Entry]] = {}
    for entry in read_entries(paths, columns, where, loss_unit, on_notice):
        if by not in entry.names:
            raise UsageError(
                f"--by: {entry.where} has no column {by!r}. {nearest(by, entry.names)}", hint="--by group"
            )
        groups.setdefault(entry.names[by] or "(none)", []).append(entry)
    return {
        name: _drop(_rows(entries, loss_unit, vocab_size), drop_highest) for name, entries in groups.items()
    }


def read_entries(
    paths: Sequence[Path],
    columns: Columns | None,
    where: str | None,
    loss_unit: TableUnit,
    on_notice: Callable[[str], None] | None,
) -> list[Entry]:
    """Return what may become rows, with all that each has by name; arguments and errors as `read_rows`."""
    found: list[Entry] = []
    folders = []
    for path in paths:
        if path.suffix in TABLES:
            lines = list(
                read_table(path, columns or Columns(), _REQUIRED, is_accuracy=loss_unit == "accuracy")
            )
            if not lines:
                raise DataError(f"{path} has no line below its first.", hint="params,tokens,loss")
            found += (_entry_of_line(line, loss_unit) for line in lines)
        elif path.is_file():
            raise DataError(
                f"A law is fitted to run folders or to tables ({', '.join(TABLES)}).", got=str(path)
            )
        else:
            folders.append(path)
    found += entries_of_runs(folders, on_notice or (lambda _: None), is_accuracy=loss_unit == "accuracy")
    if not found:
        diverged = read_excluded(folders)
        also = f" ({len(diverged)} diverged, such as {diverged[0].run})" if diverged else ""
        raise DataError(
            f"No finished run with a cool-down in {', '.join(str(path) for path in paths) or 'no path'}{also}.",
            hint="kleiber ladder run ladder.yaml",
        )
    if where is None:
        return found
    condition = Condition(where)
    kept = [entry for entry in found if condition(entry.names, entry.where)]
    if not kept:
        raise DataError(f"--where keeps none of {len(found)} rows.", got=where)
    return kept


def _rows(entries: Sequence[Entry], loss_unit: TableUnit, vocab_size: int | None) -> list[Row]:
    rows = [entry.row() for entry in entries]
    if loss_unit != "accuracy":
        check_possible(rows, [vocab_size or entry.vocab_size for entry in entries])
    return rows


def _drop(rows: list[Row], drop_highest: int) -> list[Row]:
    if not 0 <= drop_highest < len(rows):
        raise UsageError(
            f"drop_highest must be from 0 to {len(rows) - 1}, the rows less one.", got=drop_highest
        )
    dropped = set(sorted(range(len(rows)), key=lambda k: rows[k].loss, reverse=True)[:drop_highest])
    return [row for k, row in enumerate(rows) if k not in dropped]


def read_points(path: Path, columns: Columns | None = None) -> list[tuple[float, float]]:
    """Return sizes and tokens from a table, in its order: what losses are to be forecast for.

    Raises:
        DataError: The table cannot be read or holds a bad number.
    """
    lines = read_table(path, columns or Columns(), ("params", "tokens"))
    points = [(line.number("params"), line.number("tokens")) for line in lines]
    if not points:
        raise DataError(f"{path} has no line below its first.", hint="params,tokens")
    return points


def _entry_of_line(line: Line, loss_unit: TableUnit) -> Entry:
    check_unit_name(line.columns["loss"], line.where, loss_unit)
    named = {**line.every, "run": line.text("run") or line.where}  # as messages name it
    return Entry(line.where, named, lambda: _row_of_line(line, loss_unit), line.number_or_none("vocab_size"))


def _row_of_line(line: Line, loss_unit: TableUnit) -> Row:
    total, body = line.number("params"), line.number_or_none("body")
    active = line.number_or_none("active_params")
    for name, part in (("body", body), ("active_params", active)):
        if part is not None and part > total:
            raise DataError(f"{line.where}: {name} must be at most params ({total:g}).", got=part)
    run = line.text("run") or line.where
    return Row(
        run=run,
        num_params=ParamCount(
            embedding=0 if body is None else round(total - body),
            body=round(total if body is None else body),
            head=0,
        ),
        num_tokens=line.number("tokens"),
        unique_tokens=line.number_or_none("unique_tokens"),
        loss=line.number("loss") * (math.log(2) if loss_unit == "bits" else 1.0),
        trunk=line.text("trunk") or run,  # lines of one run share its steps
        eval_hash=line.text("eval_hash"),
        seed=_seed(line),
        train_flops=line.number_or_none("flops"),
        active_params=active,
    )


def _seed(line: Line) -> int | None:
    text = line.text("seed")
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        raise DataError(f"{line.where}: seed must be a whole number.", got=text) from None
