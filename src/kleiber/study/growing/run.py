"""A study from beginning to end; what stands in its folder is not done again."""

from __future__ import annotations

import functools
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from kleiber.data import open_data, with_model_tokenizer
from kleiber.fleet import Done, Job, JobEvent, LocalExecutor
from kleiber.infer.bench import bench
from kleiber.runs import Baseline, Recipe
from kleiber.runs.bench_result import BenchSettings
from kleiber.study.growing.asked import Asked
from kleiber.study.growing.design import DESIGN_FILE, Member, StudyDesign, members_of, open_design, sized
from kleiber.study.growing.document import Study
from kleiber.study.growing.extent import PLAN_FILE, StudyPlan, affordable_size, plan_study
from kleiber.study.growing.findings import study_of
from kleiber.study.growing.jobs import (
    RUNS,
    Settled,
    baseline_job,
    gradient_jobs,
    runs_of,
    step_job,
    training_jobs,
)
from kleiber.study.growing.lines import lines_between, smallest_size
from kleiber.study.growing.measured import Stepped, Tuned, measured_path, read_measured
from kleiber.study.growing.quantities import BENCH_FILE, Found
from kleiber.study.growing.rates import tune_rates

__all__ = ["STUDY_FILE", "Planned", "StudyEvent", "forget_study", "run_study"]

STUDY_FILE = "study.json"
BASELINE_FILE = "baseline.json"
_GROWTH = 1.25
"""Between the largest sizes that a budget is tried with."""
_MAX_PARAMS = 1e9
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
    """Remove what a study left in `folder`, and nothing else."""
    for name in (RUNS, "measured"):
        if (folder / name).exists():
            shutil.rmtree(folder / name)
    for name in (DESIGN_FILE, PLAN_FILE, BENCH_FILE, BASELINE_FILE, STUDY_FILE, "study.html"):
        (folder / name).unlink(missing_ok=True)


def run_study(asked: Asked, folder: Path, *, on_event: Callable[[StudyEvent], None] | None = None) -> Study:
    """Run a study in `folder` and return what it found, which also stands in `study.json`.

    Args:
        asked: What to study, in which time.
        folder: What is finished there is skipped; what was killed goes on.
        on_event: Is told everything that a person would see.

    Raises:
        RecipeError: The family, the data and the budget do not go together, or the folder holds another study.
        DataError: The data is missing, unreadable or too small.
        KleiberError: A process died.
        Interrupted: SIGINT or SIGTERM; what was finished stays.
    """
    tell, started = on_event or (lambda _: None), time.perf_counter()
    tell("Preparing the data")
    recipe = with_model_tokenizer(asked.base)
    meta = open_data(recipe.data, seed=asked.seed, task=recipe.task, on_progress=tell).meta
    design = _design(asked, recipe.with_shape(meta.shape), folder)
    members = members_of(design)
    step_times_s = _step_times(design, members, folder, tell)
    path = folder / PLAN_FILE
    if path.is_file():
        plan = StudyPlan.read(path)
    else:
        plan = plan_study(design, members, step_times_s, meta, time.perf_counter() - started)
        plan.write(path)
    planned = Planned(members, plan, step_times_s)
    tell(planned)
    tuned = _tuned(design, members, planned, folder, tell)
    tell("Training every size: runs, rates, repeated data")
    settled = Settled(planned.plan, planned.step_times_s, tuned)
    # The baseline first: nobody knows beforehand how long it takes.
    path = folder / BASELINE_FILE
    jobs = [
        *([] if path.is_file() else [baseline_job(design, path)]),
        *training_jobs(design, members, settled, folder),
    ]
    _run(jobs, design.num_workers, tell)
    tell("Measuring gradients and bytes")
    _run(gradient_jobs(design, members, folder), design.num_workers, tell)
    found = Found(design, members, folder)
    tell("Measuring latencies")
    _bench(found)
    baseline = Baseline.read(path) if path.is_file() else None
    study = study_of(found, planned.plan, tuned, baseline)
    study.write(folder / STUDY_FILE)
    return study


def _design(asked: Asked, base: Recipe, folder: Path) -> StudyDesign:
    """Return the design in the folder if it is of what is asked, else a new one; a budget's sizes are chosen once."""
    if asked.high is not None:
        high = asked.high
        low = asked.low if asked.low is not None else high / 10**asked.decades
    else:
        smallest = max(smallest_size(base), asked.low or 0.0)
        high = _affordable(asked, base, smallest)
        low = asked.low if asked.low is not None else high / 10**asked.decades
    lines, notes = lines_between(base, low, high, asked.num_sizes)
    design = StudyDesign(
        base=base,
        **{str(line): models for line, models in lines.items()},
        seeds=tuple(range(asked.seed, asked.seed + asked.num_seeds)),
        budget_s=asked.budget_s,
        num_workers=asked.num_workers,
        notes=tuple(notes),
    )
    return open_design(folder, design) or design


def _affordable(asked: Asked, base: Recipe, smallest: float) -> float:
    """Return the largest N that the budget is worth, of those `decades` above the smallest."""
    first = smallest * 1.15 * 10**asked.decades
    count = int(np.ceil(np.log(_MAX_PARAMS / first) / np.log(_GROWTH)))
    specs_of = {}
    for high in (first * _GROWTH**k for k in range(max(1, count))):
        lines, _ = lines_between(base, high / 10**asked.decades, high, 5)
        specs_of[high] = [member.spec for member in members_of(_rough(asked, base, lines["both"]))]
        best = affordable_size(
            specs_of,
            asked.budget_s,
            asked.num_workers,
            batch_size=base.train.batch_size,
            num_seeds=asked.num_seeds,
        )
        if best < high:
            return best
    return max(specs_of)


def _rough(asked: Asked, base: Recipe, both: Sequence[object]) -> StudyDesign:
    return StudyDesign.model_validate(
        {"base": base, "both": tuple(both), "budget_s": asked.budget_s, "num_workers": asked.num_workers}
    )


def _step_times(
    design: StudyDesign, members: tuple[Member, ...], folder: Path, tell: Callable[[StudyEvent], None]
) -> dict[str, float]:
    """Return the time of a step of every size [s]; those that were not measured yet are."""
    missing = [one for one in members if not measured_path(folder, Stepped, one.name).is_file()]
    if missing:
        tell(f"Measuring steps of {len(missing)} sizes")
    for start in range(0, len(missing), design.num_workers):
        # Fresh processes each time: in one that has trained before, the libraries' memory would not be seen.
        part = missing[start : start + design.num_workers]
        _run([step_job(design, one, folder) for one in part], design.num_workers, tell)
    steps = {one.name: read_measured(folder, Stepped, one.name) for one in members}
    return {name: one.probe.step_time_s for name, one in steps.items() if one}


def _tuned(
    design: StudyDesign,
    members: tuple[Member, ...],
    planned: Planned,
    folder: Path,
    tell: Callable[[StudyEvent], None],
) -> Tuned:
    """Return the factor of the rates, found at the reference size."""
    member = next(one for one in members if one.model == design.reference)
    if (known := read_measured(folder, Tuned, member.name)) is not None:
        return known
    tell("Seeking the learning rate of the middle size")
    call = functools.partial(
        tune_rates, sized(design.base, member.model), member.name, 2 * planned.plan.short_steps, folder
    )
    _run([Job(f"{member.name} tuning", call)], 1, tell)
    return Tuned.read(measured_path(folder, Tuned, member.name))


def _run(jobs: Sequence[Job], num_workers: int, tell: Callable[[StudyEvent], None]) -> None:
    if jobs:
        for event in LocalExecutor(num_workers).run(jobs):
            tell(event)
            if isinstance(event, Done) and isinstance(event.result, str):
                tell(f"No {event.job}: {event.result}")


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
