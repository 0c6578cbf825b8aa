"""Runs that were trained for a law and are no rows of it, because they diverged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kleiber.runs import Excluded, find_runs

__all__ = ["read_excluded"]


def read_excluded(paths: Sequence[Path]) -> tuple[Excluded, ...]:
    """Return the runs below `paths` that diverged, each once with its reason; tables hold none.

    Args:
        paths: As `read_rows` takes them.

    Raises:
        RunFolderError: A folder holds no run, or a record is truncated.
    """
    folders = [path for path in paths if path.is_dir()]
    runs = {run.path.resolve(): run.read_record() for run in (find_runs(folders) if folders else ())}
    names = {record.run for record in runs.values()}
    return tuple(
        Excluded(run=record.run, reason=_reason(divergence, f"{record.run}-slower", names))
        for record in runs.values()
        if (divergence := record.divergence)
    )


def _reason(divergence: str, again: str, names: set[str]) -> str:
    reason = divergence.rstrip(".")
    return f"{reason}; trained again at half the rates as {again}." if again in names else f"{reason}."
