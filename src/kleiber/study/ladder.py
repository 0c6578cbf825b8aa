"""Running a ladder: rungs side by side, finished ones skipped, killed ones resumed."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kleiber.cost import Calibration, load_calibration, save_calibration
from kleiber.data import open_data, require_tokens, with_model_tokenizer
from kleiber.errors import RecipeError, RunFolderError
from kleiber.fleet import Executor, Job, JobEvent, LocalExecutor
from kleiber.runs import Row, RunFolder, row_of
from kleiber.study.design import LadderDesign, Rung, branch_step, rungs_of, target_recipe
from kleiber.study.probe import calibrate
from kleiber.train import Branch, Progress, train
from kleiber.train.lock import is_held

__all__ = [
    "RungStatus",
    "forget_ladder",
    "ladder_rows",
    "ladder_status",
    "measure_machine",
    "open_ladder",
    "prepare_data",
    "run_ladder",
    "train_rung",
]

DESIGN_FILE = "ladder.yaml"
TARGET_FILE = "target.yaml"
"""The recipe of the target, to be trained when its forecast has been written."""


@dataclass(frozen=True)
class RungStatus:
    """Where one run of a ladder stands."""

    run: str
    status: Literal["waiting", "running", "finished", "interrupted", "failed"]
    step: int
    num_steps: int
    val_loss: float | None


def open_ladder(folder: Path, design: LadderDesign | None = None) -> LadderDesign:
    """Return the design in `folder`, after writing `design` there when the folder has none.

    Raises:
        RunFolderError: The folder has no design and none is given.
        RecipeError: The folder has another design, or `design` breaks a rule.
    """
    path = folder / DESIGN_FILE
    if path.is_file():
        known = LadderDesign.read(path)
        if design not in (None, known):
            raise RecipeError(
                f"{folder} holds a ladder of another design.",
                hint="another folder with -o, or --fresh to start again",
            )
        return known
    if design is None:
        raise RunFolderError(
            f"{folder} holds no {DESIGN_FILE}.", hint=f"kleiber ladder run ladder.yaml -o {folder}"
        )
    rungs_of(design)  # what breaks a rule is refused before it stands in the folder
    design.write(path)
    return design


def forget_ladder(folder: Path) -> None:
    """Remove the ladder that stands in `folder`: its runs, its design and its target's recipe."""
    if (folder / "ladder").exists():
        shutil.rmtree(folder / "ladder")
    for name in (DESIGN_FILE, TARGET_FILE):
        (folder / name).unlink(missing_ok=True)


def run_ladder(
    design: LadderDesign,
    folder: Path,
    *,
    executor: Executor | None = None,
    on_event: Callable[[JobEvent], None] | None = None,
) -> list[Row]:
    """Train every run of a ladder below `folder`/ladder and return the rows of its branches.

    Args:
        design: What to train; written to `folder`/ladder.yaml, and its target's recipe to `folder`/target.yaml.
        folder: The study; what is finished there is skipped, what was killed goes on.
        executor: Where to run; this machine's cores when None.
        on_event: Called with every `Progressed` and `Done`.

    Raises:
        RecipeError: The folder holds another design, or the design breaks a rule.
        KleiberError: What a run raised, after the others have ended.
        Interrupted: SIGINT or SIGTERM, after checkpoints.
    """
    design = open_ladder(folder, prepare_data(design))
    target_recipe(design).write(folder / TARGET_FILE)
    rungs = [rung for rung in rungs_of(design) if not _is_finished(rung, folder)]
    # The longest first: what is left for the end is short, and no core waits long.
    rungs.sort(key=lambda rung: rung.num_steps * rung.spec.count().total, reverse=True)
    jobs = [Job(rung.trunk, functools.partial(train_rung, rung, folder / "ladder")) for rung in rungs]
    if jobs:
        for event in (executor or LocalExecutor(design.num_workers)).run(jobs):
            if on_event:
                on_event(event)
    return ladder_rows(design, folder)


def measure_machine(design: LadderDesign) -> Calibration:
    """Train each size of a ladder and its target for about a second, and keep what this machine took.

    What `kleiber calibrate` found stays.

    Raises:
        RecipeError: The design breaks a rule.
        RunFolderError: What was kept before does not parse.
        Interrupted: SIGINT or SIGTERM.
    """
    recipes = {rung.spec: rung.trunk_recipe for rung in rungs_of(design)}
    known = load_calibration()
    measured = calibrate(list(recipes.values()), [target_recipe(design)], design.num_workers)
    calibration = measured.model_copy(update={"rates": known.rates if known else None})
    save_calibration(calibration)
    return calibration


def prepare_data(design: LadderDesign, on_progress: Callable[[str], None] | None = None) -> LadderDesign:
    """Prepare the data once, before several processes ask for it, and return the design with what it looks like.

    Args:
        design: Its data, and the longest run on it.
        on_progress: Is told each stage of a preparation as it begins.

    Raises:
        DataError: The data is missing, unreadable, or text too small for the longest run.
    """
    base = with_model_tokenizer(design.base)
    meta = open_data(base.data, seed=design.seeds[0], task=base.task, on_progress=on_progress).meta
    if base.task.name == "lm":
        num_steps = max(*design.horizons, design.target.num_steps)
        require_tokens(meta, num_steps * base.tokens_per_step)
    return design.model_copy(update={"base": base.with_shape(meta.shape)})


def train_rung(rung: Rung, folder: Path, report: Callable[[Progress], Any]) -> None:
    """Train a rung's trunk, then each branch from the trunk's checkpoint."""
    train(rung.trunk_recipe, folder / rung.trunk, on_progress=report)
    for name, recipe in rung.branches:
        branch = Branch(folder / rung.trunk, branch_step(recipe))
        train(recipe, folder / name, branch=branch, on_progress=report)


def ladder_rows(design: LadderDesign, folder: Path) -> list[Row]:
    """Return the rows of the branches that have finished."""
    runs = [RunFolder(folder / "ladder" / name) for rung in rungs_of(design) for name, _ in rung.branches]
    rows = [row_of(run.read_record()) for run in runs if run.exists()]
    return [row for row in rows if row is not None]


def ladder_status(folder: Path) -> list[RungStatus]:
    """Return where each run stands, in the order of the design.

    Raises:
        RunFolderError: The folder holds no design.
    """
    runs: list[tuple[str, int]] = []
    for rung in rungs_of(open_ladder(folder)):
        runs += [(rung.trunk, rung.trunk_recipe.train.num_steps)]
        runs += [(name, recipe.train.num_steps) for name, recipe in rung.branches]
    return [_status(RunFolder(folder / "ladder" / name), num_steps) for name, num_steps in runs]


def _status(run: RunFolder, num_steps: int) -> RungStatus:
    if not run.exists():
        return RungStatus(run.name, "waiting", 0, num_steps, None)
    record, lines = run.read_record(), run.read_metrics()
    step = int(lines[-1]["step"]) if lines else 0
    # A run that was killed had no time to say so, but its lock is free.
    is_dead = record.status == "running" and not is_held(run.path)
    return RungStatus(
        run.name,
        "interrupted" if is_dead else record.status,
        step,
        num_steps,
        record.result.val_loss if record.result else None,
    )


def _is_finished(rung: Rung, folder: Path) -> bool:
    runs = [RunFolder(folder / "ladder" / name) for name, _ in rung.branches]
    return all(run.exists() and run.read_record().status == "finished" for run in runs)
