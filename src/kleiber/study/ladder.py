"""Running a ladder: rungs side by side, finished ones skipped, killed ones resumed."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kleiber.cost import Calibration, load_calibration, save_calibration
from kleiber.data import open_data, require_tokens, with_model_tokenizer
from kleiber.errors import RecipeError, RunFolderError
from kleiber.fleet import Executor, Job, JobEvent, LocalExecutor
from kleiber.runs import Excluded, Row, RunFolder, row_of
from kleiber.study.design import LadderDesign, rungs_of, target_recipe
from kleiber.study.probe import calibrate
from kleiber.study.rung import excluded_runs, has_ended, run_names, train_rung
from kleiber.train.lock import is_held, require_free

__all__ = [
    "RungStatus",
    "current_ladder",
    "forget_ladder",
    "ladder_excluded",
    "ladder_rows",
    "ladder_status",
    "measure_machine",
    "open_ladder",
    "prepare_data",
    "run_ladder",
    "train_rungs",
]

DESIGN_FILE = "ladder.yaml"
ADAPTED_FILE, DECISIONS_FILE = "adapted.yaml", "decisions.jsonl"
"""The ladder as it stands where its rest was planned anew, and why."""
TARGET_FILE = "target.yaml"
"""The recipe of the target, to be trained when its forecast has been written."""


@dataclass(frozen=True)
class RungStatus:
    """Where one run of a ladder stands."""

    run: str
    status: Literal["waiting", "running", "finished", "interrupted", "diverged", "failed"]
    step: int
    num_steps: int
    val_loss: float | None
    reason: str | None = None
    """Why it failed or is left out."""


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


def current_ladder(folder: Path) -> LadderDesign:
    """Return the ladder in `folder` as it stands: as its rest was planned last, else as it was designed.

    Raises:
        RunFolderError: The folder has no design.
    """
    adapted = folder / ADAPTED_FILE
    return LadderDesign.read(adapted) if adapted.is_file() else open_ladder(folder)


def forget_ladder(folder: Path) -> None:
    """Remove the ladder that stands in `folder`: its runs, its design and its target's recipe.

    Raises:
        UsageError: A run of it is being written.
    """
    require_free(folder / "ladder")
    if (folder / "ladder").exists():
        shutil.rmtree(folder / "ladder")
    for name in (DESIGN_FILE, TARGET_FILE, ADAPTED_FILE, DECISIONS_FILE):
        (folder / name).unlink(missing_ok=True)


def run_ladder(
    design: LadderDesign,
    folder: Path,
    *,
    executor: Executor | None = None,
    on_event: Callable[[JobEvent], None] | None = None,
) -> list[Row]:
    """Train every run of a ladder below `folder`/ladder and return the rows of its branches.

    A rung that diverges stops no other: see `train_rung` and `ladder_excluded`.

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
    train_rungs(design, folder, executor, on_event)
    return ladder_rows(design, folder)


def train_rungs(
    design: LadderDesign,
    folder: Path,
    executor: Executor | None = None,
    on_event: Callable[[JobEvent], None] | None = None,
) -> None:
    """Train what has not ended of a ladder's rungs below `folder`/ladder; the design's file is not looked at.

    Raises:
        KleiberError: As `run_ladder`.
    """
    rungs = [rung for rung in rungs_of(design) if not has_ended(rung, folder / "ladder")]
    # The longest first: what is left for the end is short, and no core waits long.
    rungs.sort(key=lambda rung: rung.num_steps * rung.spec.count().total, reverse=True)
    jobs = [Job(rung.trunk, functools.partial(train_rung, rung, folder / "ladder")) for rung in rungs]
    if jobs:
        for event in (executor or LocalExecutor(design.num_workers)).run(jobs):
            if on_event:
                on_event(event)


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
    meta = open_data(base.data, seed=design.parts[0].seeds[0], task=base.task, on_progress=on_progress).meta
    if base.task.name == "lm":
        require_tokens(meta, design.most_steps * base.tokens_per_step)
    return design.model_copy(update={"base": base.with_shape(meta.shape)})


def ladder_rows(design: LadderDesign, folder: Path) -> list[Row]:
    """Return the rows of the branches that have finished."""
    names = [
        name
        for rung in rungs_of(design)
        for name, recipe in run_names(rung, folder / "ladder")
        if recipe.train.schedule.cooldown_frac  # a trunk is no row
    ]
    runs = [RunFolder(folder / "ladder" / name) for name in names]
    rows = [row_of(run.read_record()) for run in runs if run.exists()]
    return [row for row in rows if row is not None]


def ladder_excluded(design: LadderDesign, folder: Path) -> list[Excluded]:
    """Return the runs that diverged, each with what became of it."""
    return [one for rung in rungs_of(design) for one in excluded_runs(rung, folder / "ladder")]


def ladder_status(folder: Path) -> list[RungStatus]:
    """Return where each run stands, in the order of the design.

    Raises:
        RunFolderError: The folder holds no design.
    """
    design = current_ladder(folder)
    reasons = {one.run: one.reason for one in ladder_excluded(design, folder)}
    return [
        _status(RunFolder(folder / "ladder" / name), recipe.train.num_steps, reasons.get(name))
        for rung in rungs_of(design)
        for name, recipe in run_names(rung, folder / "ladder")
    ]


def _status(run: RunFolder, num_steps: int, excluded_for: str | None) -> RungStatus:
    if not run.exists():
        return RungStatus(run.name, "waiting", 0, num_steps, None)
    record, lines = run.read_record(), run.read_metrics()
    step = int(lines[-1]["step"]) if lines else 0
    # A run that was killed had no time to say so, but its lock is free.
    is_dead = record.status == "running" and not is_held(run.path)
    ended = "diverged" if excluded_for else record.status
    return RungStatus(
        run.name,
        "interrupted" if is_dead else ended,
        step,
        num_steps,
        record.result.val_loss if record.result else None,
        excluded_for or (record.error if ended == "failed" else None),
    )
