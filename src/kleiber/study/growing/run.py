"""A study from beginning to end; what stands in its folder is not done again."""

from __future__ import annotations

import functools
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from kleiber.data import open_data, with_model_tokenizer
from kleiber.fleet import Done, Executor, Job, JobEvent, LocalExecutor
from kleiber.infer.bench import bench
from kleiber.runs import Baseline
from kleiber.runs.bench_result import BenchSettings
from kleiber.study.growing.asked import Asked
from kleiber.study.growing.choice import choose_design
from kleiber.study.growing.design import (
    DESIGN_FILE,
    Member,
    StudyDesign,
    members_of,
    open_design,
    sized,
)
from kleiber.study.growing.document import Study
from kleiber.study.growing.extent import PLAN_FILE, StudyPlan, plan_study
from kleiber.study.growing.findings import study_of
from kleiber.study.growing.found import BENCH_FILE, Found
from kleiber.study.growing.jobs import (
    RUNS,
    Settled,
    baseline_job,
    gradient_jobs,
    runs_of,
    step_job,
    training_jobs,
)
from kleiber.study.growing.measured import Stepped, Tuned, measured_path, read_measured
from kleiber.study.growing.rates import tune_rates
from kleiber.train.lock import require_free

__all__ = ["STUDY_FILE", "Planned", "StudyEvent", "forget_study", "run_study"]

STUDY_FILE = "study.json"
BASELINE_FILE = "baseline.json"
_BENCH_ROUNDS = 5
_NEW_TOKENS = 32


@dataclass(frozen=True)
class Planned:
    """The sizes and how long they are trained."""

    members: tuple[Member, ...]
    plan: StudyPlan
    step_times_s: dict[str, float]


StudyEvent: TypeAlias = str | Planned | JobEvent
"""What happens, in order; a `str` says what begins."""


def forget_study(folder: Path) -> None:
    """Remove what a study left in `folder`, and nothing else.

    Raises:
        UsageError: A run of it is being written.
    """
    require_free(folder / RUNS)
    for name in (RUNS, "measured"):
        if (folder / name).exists():
            shutil.rmtree(folder / name)
    for name in (DESIGN_FILE, PLAN_FILE, BENCH_FILE, BASELINE_FILE, STUDY_FILE, "study.html"):
        (folder / name).unlink(missing_ok=True)


def run_study(
    asked: Asked,
    folder: Path,
    *,
    executor_of: Callable[[int], Executor] = LocalExecutor,
    on_event: Callable[[StudyEvent], None] | None = None,
    fresh: bool = False,
) -> Study:
    """Run a study in `folder` and return what it found, which also stands in `study.json`.

    Args:
        asked: What to study, in which time.
        folder: What is finished there is skipped; what was killed goes on.
        executor_of: Makes what runs so many jobs side by side; this machine's cores by default.
        on_event: Is told everything that a person would see.
        fresh: Removes what stands in the folder, once it is known that the study can be begun.

    Raises:
        RecipeError: The family, the data and the budget do not go together, or the folder holds another study.
        DataError: The data is missing, unreadable or too small.
        KleiberError: A process died.
        Interrupted: SIGINT or SIGTERM; what was finished stays.
    """
    started = time.perf_counter()
    stages = _Stages(folder, executor_of, on_event or (lambda _: None))
    stages.tell("Preparing the data")
    recipe = with_model_tokenizer(asked.base)
    meta = open_data(recipe.data, seed=asked.seed, task=recipe.task, on_progress=stages.tell).meta
    design = choose_design(asked, recipe.with_shape(meta.shape))
    if fresh:
        forget_study(folder)
    design = open_design(folder, design) or design
    members = members_of(design)
    step_times_s = stages.step_times(design, members)
    path = folder / PLAN_FILE
    if not path.is_file():
        plan_study(design, members, step_times_s, meta, time.perf_counter() - started).write(path)
    plan = StudyPlan.read(path)
    stages.tell(Planned(members, plan, step_times_s))
    tuned = stages.tuned(design, members, plan)
    stages.train(design, members, Settled(plan, step_times_s, tuned))
    stages.tell("Measuring gradients and bytes")
    stages.run(gradient_jobs(design, members, folder), design.num_workers)
    stages.tell("Measuring latencies")
    found = Found(design, members, folder)
    _bench(found)
    path = folder / BASELINE_FILE
    study = study_of(found, plan, tuned, Baseline.read(path) if path.is_file() else None)
    study.write(folder / STUDY_FILE)
    return study


@dataclass(frozen=True)
class _Stages:
    """What is done in other processes, and told."""

    folder: Path
    executor_of: Callable[[int], Executor]
    tell: Callable[[StudyEvent], None]

    def run(self, jobs: Sequence[Job], num_workers: int) -> None:
        """Do jobs, so many at a time."""
        if not jobs:
            return
        for event in self.executor_of(num_workers).run(jobs):
            self.tell(event)
            if isinstance(event, Done) and isinstance(event.result, str):
                self.tell(f"No {event.job}: {event.result}")

    def step_times(self, design: StudyDesign, members: Sequence[Member]) -> dict[str, float]:
        """Return the time of a step of every size [s]; those that were not measured yet are."""
        missing = [one for one in members if not measured_path(self.folder, Stepped, one.name).is_file()]
        if missing:
            self.tell(f"Measuring steps of {len(missing)} sizes")
        for start in range(0, len(missing), design.num_workers):
            # Fresh processes each time: in one that has trained before, the libraries' memory would not be seen.
            part = missing[start : start + design.num_workers]
            self.run([step_job(design, one, self.folder) for one in part], design.num_workers)
        steps = {one.name: read_measured(self.folder, Stepped, one.name) for one in members}
        return {name: one.probe.step_time_s for name, one in steps.items() if one}

    def tuned(self, design: StudyDesign, members: Sequence[Member], plan: StudyPlan) -> Tuned:
        """Return which rates learn most at the reference size."""
        member = next(one for one in members if one.model == design.reference)
        if (known := read_measured(self.folder, Tuned, member.name)) is not None:
            return known
        self.tell("Seeking the learning rate of the middle size")
        recipe, num_steps = sized(design.base, member.model), 2 * plan.short_steps
        call = functools.partial(tune_rates, recipe, member.name, num_steps, self.folder)
        self.run([Job(f"{member.name} tuning", call)], 1)
        return Tuned.read(measured_path(self.folder, Tuned, member.name))

    def train(self, design: StudyDesign, members: Sequence[Member], settled: Settled) -> None:
        """Do what is left of the runs and of what is measured beside them."""
        self.tell("Training every size: runs, rates, repeated data")
        path = self.folder / BASELINE_FILE
        # The baseline first: nobody knows beforehand how long it takes.
        baseline = [] if path.is_file() else [baseline_job(design, path)]
        self.run([*baseline, *training_jobs(design, members, settled, self.folder)], design.num_workers)


def _bench(found: Found) -> None:
    """Write the latencies of the first finished run of each size, in turns, in torch."""
    path = found.folder / BENCH_FILE
    names = [runs_of(found.design, member)[0][0] for member in found.members if found.runs[member.name]]
    folders = [found.folder / RUNS / name for name in names]
    folders = [one for one in folders if (one / "model").is_dir()]
    if path.is_file() or not folders:
        return
    is_text = found.design.base.task.name == "lm"
    settings = BenchSettings(
        engines=("torch",),
        num_rounds=_BENCH_ROUNDS,
        num_threads=1,
        block_s=0.1,
        has_quality=False,
        has_memory=False,
        prompt_tokens=max(1, found.design.base.data.context // 2) if is_text else None,
        new_tokens=max(1, min(_NEW_TOKENS, found.design.base.data.context // 2 - 1)) if is_text else None,
    )
    bench(folders, settings).write(path)
