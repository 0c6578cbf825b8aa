"""Training one rung: its trunk, the branches that leave it, and once more at half the rates when the trunk diverges."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from kleiber.errors import DivergedError
from kleiber.runs import Excluded, Recipe, Record, RunFolder
from kleiber.study.design import Rung, branch_step
from kleiber.train import Branch, Progress, train

__all__ = ["excluded_runs", "has_ended", "run_names", "slower", "train_rung"]

SLOWER_FRAC = 0.5
"""Of the rates, when a rung is trained again."""


def train_rung(rung: Rung, folder: Path, report: Callable[[Progress], Any]) -> None:
    """Train a rung's trunk, then each branch from the trunk's checkpoint.

    A trunk that diverges is trained once more at half the rates, in folders of its own. What diverges after that is left
    out, as is a branch that diverges by itself: `excluded_runs` says so.

    Args:
        rung: What to train; what has finished is skipped, what was killed goes on.
        folder: Holds the run folders.
        report: Called at every log step.
    """
    for attempt in (rung, slower(rung)):
        if _trains(attempt.trunk, attempt.trunk_recipe, folder, report):
            for name, recipe in attempt.branches:
                _trains(name, recipe, folder, report, Branch(folder / attempt.trunk, branch_step(recipe)))
            return


def _trains(
    name: str, recipe: Recipe, folder: Path, report: Callable[[Progress], Any], branch: Branch | None = None
) -> bool:
    """Train a run, unless it is known to diverge; return whether it finished below guessing."""
    if _has_diverged(folder / name):
        return False
    try:
        record = train(recipe, folder / name, branch=branch, on_progress=report)
    except DivergedError:
        return False
    return record.divergence is None


def slower(rung: Rung) -> Rung:
    """Return the rung at half the rates, under other names."""
    return replace(
        rung,
        trunk=f"{rung.trunk}-slower",
        trunk_recipe=_slower(rung.trunk_recipe),
        branches=tuple((name.replace(rung.trunk, f"{rung.trunk}-slower"), _slower(recipe)) for name, recipe in rung.branches),
    )  # fmt: skip


def _slower(recipe: Recipe) -> Recipe:
    optimizer = recipe.train.optimizer
    rates = {"lr": SLOWER_FRAC * optimizer.lr, "matrix_lr": SLOWER_FRAC * optimizer.matrix_lr}
    train_recipe = recipe.train.model_copy(update={"optimizer": optimizer.model_copy(update=rates)})
    return recipe.model_copy(update={"train": train_recipe})


def run_names(rung: Rung, folder: Path) -> Iterator[tuple[str, Recipe]]:
    """Yield name and recipe of each run of a rung, trunks first; those of a second attempt once the first has diverged."""
    yield rung.trunk, rung.trunk_recipe
    if not _has_diverged(folder / rung.trunk):
        yield from rung.branches
        return
    again = slower(rung)
    yield again.trunk, again.trunk_recipe
    if not _has_diverged(folder / again.trunk):
        yield from again.branches


def has_ended(rung: Rung, folder: Path) -> bool:
    """Return whether nothing is left to train of a rung."""
    records = [_record(folder / name) for name, _ in run_names(rung, folder)]
    return all(
        record is not None and (record.status == "finished" or record.divergence is not None)
        for record in records
    )


def excluded_runs(rung: Rung, folder: Path) -> list[Excluded]:
    """Return the runs of a rung that diverged, with what became of it."""
    again = slower(rung)
    found = []
    for name, _ in run_names(rung, folder):
        record = _record(folder / name)
        if record is None or record.divergence is None:
            continue
        after = "its branches were not trained" if name == again.trunk else "it is left out"
        if name == rung.trunk:
            after = f"trained again at half the rates as {again.trunk}"
        found.append(Excluded(run=name, reason=f"{record.divergence.rstrip('.')}; {after}."))
    return found


def _has_diverged(path: Path) -> bool:
    record = _record(path)
    return record is not None and record.divergence is not None


def _record(path: Path) -> Record | None:
    run = RunFolder(path)
    return run.read_record() if run.exists() else None
