"""Rows of a law: read from run folders and from tables."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from kleiber.errors import DataError, UsageError
from kleiber.runs import ParamCount, Row, find_runs, row_of
from kleiber.scaling.table import Columns, Line, read_table

__all__ = ["read_points", "read_rows"]

_TABLES = (".csv", ".tsv")
_REQUIRED = ("params", "tokens", "loss")


def read_rows(
    paths: Sequence[Path],
    columns: Columns | None = None,
    *,
    drop_highest: int = 0,
    on_notice: Callable[[str], None] | None = None,
) -> list[Row]:
    """Return the rows that `paths` hold.

    Finished runs that ended with a cool-down count; a trunk, whose learning rate never fell, is not comparable. A
    run that started with a forecast is what a law is tested on: it is left out.

    Args:
        paths: Run folders, folders of runs, CSV or TSV files.
        columns: Which column of a table is which.
        drop_highest: Rows with the highest losses to leave out, such as runs that hardly trained.
        on_notice: Is told of runs that are left out for their forecast.

    Raises:
        DataError: A table cannot be read, a number in it is bad, or no finished run is there.
        RunFolderError: A folder holds no run, or a record is truncated.
        UsageError: `drop_highest` leaves no row.
    """
    rows: list[Row] = []
    folders = []
    for path in paths:
        if path.suffix in _TABLES:
            rows += (_row_of_line(line) for line in read_table(path, columns or Columns(), _REQUIRED))
        elif path.is_file():
            raise DataError("A law is fitted to run folders or to tables (.csv, .tsv).", got=str(path))
        else:
            folders.append(path)
    rows += _rows_of_runs(folders, on_notice or (lambda _: None))
    if not rows:
        raise DataError(
            f"No finished run with a cool-down in {', '.join(str(path) for path in paths) or 'no path'}.",
            hint="kleiber ladder run ladder.yaml",
        )
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


def _row_of_line(line: Line) -> Row:
    total, body = line.number("params"), line.number_or_none("body")
    if body is not None and body > total:
        raise DataError(f"{line.where}: body must be at most params ({total:g}).", got=body)
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
        loss=line.number("loss"),
        trunk=line.text("trunk") or run,  # lines of one run share its steps
        eval_hash=line.text("eval_hash"),
        seed=_seed(line),
    )


def _seed(line: Line) -> int | None:
    text = line.text("seed")
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        raise DataError(f"{line.where}: seed must be a whole number.", got=text) from None


def _rows_of_runs(folders: Sequence[Path], notice: Callable[[str], None]) -> list[Row]:
    """Return the rows of finished branches and whole runs, each folder once."""
    runs = {run.path.resolve(): run.read_record() for run in (find_runs(list(folders)) if folders else ())}
    foretold = [record.run for record in runs.values() if record.predicted.forecast_hash is not None]
    if foretold:
        notice(
            f"{len(foretold)} of {len(runs)} runs started with a forecast and are left out of the law: "
            f"{', '.join(foretold)}."
        )
    rows = {
        path: row
        for path, record in runs.items()
        if record.predicted.forecast_hash is None
        and record.recipe.train.schedule.cooldown_frac > 0
        and (row := row_of(record)) is not None
    }
    names = _short_names({path.parent for path in rows})
    if len(names) < 2:
        return list(rows.values())
    # Trunks of two ladders may bear one name and share nothing.
    return [
        row.model_copy(update={"trunk": f"{names[path.parent]}/{row.trunk}"}) for path, row in rows.items()
    ]


def _short_names(folders: Collection[Path]) -> dict[Path, str]:
    """Return the last parts of each path, as few as tell all of them apart.

    Example:
        >>> list(_short_names([Path("/home/a/one/ladder"), Path("/home/a/two/ladder")]).values())
        ['one/ladder', 'two/ladder']
    """
    num_parts = 1
    while len({path.parts[-num_parts:] for path in folders}) < len(folders):
        num_parts += 1
    return {path: "/".join(path.parts[-num_parts:]) for path in folders}
