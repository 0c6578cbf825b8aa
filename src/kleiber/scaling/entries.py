"""Run folders as rows that a condition can be asked of."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kleiber.errors import DataError
from kleiber.runs import Record, Row, find_runs, row_of

__all__ = ["Entry", "entries_of_runs"]


@dataclass(frozen=True)
class Entry:
    """A run that may become a row of a law."""

    where: str
    """Folder, or file and line."""
    names: Mapping[str, str]
    """What a condition or a group may ask for."""
    row: Callable[[], Row]
    vocab_size: float | None
    """Entries of the tokenizer, when known."""


def entries_of_runs(
    folders: Sequence[Path], notice: Callable[[str], None], *, is_accuracy: bool = False
) -> list[Entry]:
    """Return finished branches and whole runs, each folder once.

    Args:
        folders: Run folders, and folders of them.
        notice: Is told of runs that are left out for their forecast.
        is_accuracy: The law is of their accuracies on the validation split.

    Raises:
        RunFolderError: A folder holds no run, or a record is truncated.
        DataError: An accuracy was not measured.
    """
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
    if is_accuracy:
        rows = {path: row.model_copy(update={"loss": _accuracy(runs[path])}) for path, row in rows.items()}
    names = _short_names({path.parent for path in rows})
    if len(names) > 1:
        # Trunks of two ladders may bear one name and share nothing.
        rows = {
            path: row.model_copy(update={"trunk": f"{names[path.parent]}/{row.trunk}"})
            for path, row in rows.items()
        }
    return [_entry_of_run(path, runs[path], row, names.get(path.parent, "")) for path, row in rows.items()]


def _accuracy(record: Record) -> float:
    measured = record.result.val_metrics if record.result else {}
    if "accuracy" not in measured:
        raise DataError(
            f"run {record.run!r} measured no accuracy; it has {', '.join(measured) or 'its loss alone'}.",
            hint="--form chinchilla   (a law of losses)",
        )
    return measured["accuracy"].value


def _entry_of_run(path: Path, record: Record, row: Row, folder: str) -> Entry:
    names = {
        "run": row.run,
        "folder": folder,
        "params": row.num_params.total,
        "body": row.num_params.body,
        "tokens": row.num_tokens,
        "unique_tokens": row.unique_tokens,
        **({name: one.value for name, one in record.result.val_metrics.items()} if record.result else {}),
        "loss": record.result.val_loss if record.result else row.loss,
        "flops": row.train_flops,
        "trunk": row.trunk,
        "seed": row.seed,
        **_flat(record.recipe.model_dump(mode="json")),
    }
    texts = {name: "" if value is None else str(value) for name, value in names.items()}
    return Entry(str(path), texts, lambda: row, getattr(record.data.shape, "vocab_size", None))


def _flat(values: Mapping[str, object], path: str = "") -> dict[str, object]:
    """Return the numbers and texts of nested mappings by their paths.

    Example:
        >>> _flat({"train": {"batch_size": 8, "schedule": {"kind": "wsd"}}})
        {'train.batch_size': 8, 'train.schedule.kind': 'wsd'}
    """
    found: dict[str, object] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{path}{name}.")
        elif isinstance(value, str | int | float):
            found[f"{path}{name}"] = value
    return found


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
