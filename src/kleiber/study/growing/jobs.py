"""The jobs of a study: what each process does, and whether it has been done."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kleiber.errors import DivergedError, MissingExtraError
from kleiber.fleet import Job
from kleiber.runs import ModelRecipe, Recipe, RunFolder
from kleiber.study.baseline import run_baseline
from kleiber.study.growing.design import Member, StudyDesign, sized
from kleiber.study.growing.extent import StudyPlan
from kleiber.study.growing.gradients import measure_gradient
from kleiber.study.growing.measured import Gradient, Overfit, RateFound, Stepped, Tuned, measured_path
from kleiber.study.growing.overfit import NUM_PASSES, overfit
from kleiber.study.growing.rates import MAX_SHORT_RUNS, find_rate
from kleiber.study.probe import probe
from kleiber.train import Progress, train
from kleiber.train.parametrization import hidden_rate_factor

__all__ = ["Settled", "baseline_job", "gradient_jobs", "run_recipe", "runs_of", "step_job", "training_jobs"]

Report = Callable[[Progress], None]

RUNS = "runs"
"""Folder of the run folders."""
_MOST_SHORT_FRAC = 0.25
"""Of a run's steps, on short sequences: one that never saw whole ones would be judged on what it was not trained for."""
_TOLD_STEPS = 10
"""Of a run that logs every step, how often its bar moves."""


def step_job(design: StudyDesign, member: Member, folder: Path) -> Job:
    """Return what measures the steps of a size."""
    recipe = sized(design.base, member.model)
    return Job(
        f"{member.name} steps", functools.partial(_step, recipe, member.name, design.num_workers, folder)
    )


def _step(recipe: Recipe, member: str, num_workers: int, folder: Path, report: Report) -> None:
    peak, found = probe(recipe, num_workers, report)
    Stepped(member=member, probe=found, peak_flops_per_s=peak).write(measured_path(folder, Stepped, member))


def runs_of(design: StudyDesign, member: Member) -> list[tuple[str, int]]:
    """Return name and seed of each run of a size."""
    seeds = design.seeds if "both" in member.lines else design.seeds[:1]
    return [(f"{member.name}-s{seed}", seed) for seed in seeds]


def run_recipe(
    design: StudyDesign, model: ModelRecipe, *, factor: float, width_ratio: float, num_steps: int, seed: int
) -> Recipe:
    """Return the recipe of a run: the base's, with the rates that were found.

    Args:
        design: Of the study.
        model: The size.
        factor: Of the base's rates, found at the reference size.
        width_ratio: This width over the reference's, by which hidden rates fall.
        num_steps: Of the run.
        seed: Of the run.
    """
    recipe = sized(design.base, model)
    train, optimizer = recipe.train, recipe.train.optimizer
    hidden = hidden_rate_factor(optimizer.name, width_ratio)
    rates = {"lr": optimizer.lr * factor, "matrix_lr": optimizer.matrix_lr * factor * hidden}
    schedule = train.schedule
    if design.warmup_frac is not None:
        schedule = schedule.model_copy(update={"warmup_steps": max(1, round(design.warmup_frac * num_steps))})
    warmup, most_short = train.sequence_warmup, max(1, round(_MOST_SHORT_FRAC * num_steps))
    changes = {
        "num_steps": num_steps,
        "seed": seed,
        "optimizer": optimizer.model_copy(update=rates),
        "schedule": schedule,
        "sequence_warmup": warmup and warmup.model_copy(update={"steps": min(warmup.steps, most_short)}),
        "log_every": 1,
        "val_every": num_steps,
        "checkpoint_every": max(20, num_steps // 4),
        "keep_checkpoints": 1,
    }
    return recipe.model_copy(update={"train": train.model_copy(update=changes)})


@dataclass(frozen=True)
class Settled:
    """What is known before the runs begin."""

    plan: StudyPlan
    step_times_s: Mapping[str, float]
    """By size."""
    tuned: Tuned
    """Which rates learn most."""


def training_jobs(
    design: StudyDesign, members: Sequence[Member], settled: Settled, folder: Path
) -> list[Job]:
    """Return what is left of runs, rates and repeated data, the longest first."""
    found = [pair for member in members for pair in _jobs_of(design, members, member, settled, folder)]
    return [job for _, job in sorted(found, key=lambda pair: -pair[0])]


def _jobs_of(
    design: StudyDesign, members: Sequence[Member], member: Member, settled: Settled, folder: Path
) -> Iterator[tuple[float, Job]]:
    """Yield the seconds and the job of everything that is left of a size."""
    plan, step_s = settled.plan, settled.step_times_s[member.name]
    width = next(one.spec.width for one in members if one.model == design.reference)

    def of_seed(seed: int) -> Recipe:
        return run_recipe(
            design,
            member.model,
            factor=settled.tuned.factor(plan.num_steps),
            width_ratio=member.spec.width / width,
            num_steps=plan.num_steps,
            seed=seed,
        )

    for name, seed in runs_of(design, member):
        if not _has_ended(folder / RUNS / name):
            yield (
                step_s * plan.num_steps,
                Job(name, functools.partial(_train, of_seed(seed), folder / RUNS / name)),
            )
    if not measured_path(folder, RateFound, member.name).is_file():
        # One rate for all widths: how high it may be is what is asked.
        recipe = run_recipe(
            design,
            member.model,
            factor=settled.tuned.best,
            width_ratio=1.0,
            num_steps=plan.num_steps,
            seed=design.seeds[0],
        )
        call = functools.partial(find_rate, recipe, member.name, plan.short_steps, folder)
        yield step_s * plan.short_steps * MAX_SHORT_RUNS, Job(f"{member.name} rate", call)
    if "both" in member.lines and not measured_path(folder, Overfit, member.name).is_file():
        call = functools.partial(
            overfit, of_seed(design.seeds[0]), member.name, plan.repeated_batches, folder
        )
        yield step_s * plan.repeated_batches * NUM_PASSES, Job(f"{member.name} repeated", call)


def baseline_job(design: StudyDesign, path: Path) -> Job:
    """Return what fits classical methods to the data."""
    return Job("baseline", functools.partial(_fit_baseline, design.base, path))


def _fit_baseline(recipe: Recipe, path: Path, report: Report) -> str | None:
    """Write what classical methods reach; return why they cannot be fitted."""
    del report
    try:
        run_baseline(recipe).write(path)
    except MissingExtraError as error:
        return error.message
    return None


def gradient_jobs(design: StudyDesign, members: Sequence[Member], folder: Path) -> list[Job]:
    """Return what is left of measuring gradients and bytes, of the first run of each size."""
    jobs = []
    for member in members:
        run = folder / RUNS / runs_of(design, member)[0][0]
        is_done = measured_path(folder, Gradient, member.name).is_file()
        if is_done or not run.is_dir() or RunFolder(run).read_record().status != "finished":
            continue
        recipe = RunFolder(run).read_record().recipe
        call = functools.partial(measure_gradient, recipe, member.name, run, folder)
        jobs.append(Job(f"{member.name} gradients", call))
    return jobs


def _has_ended(run: Path) -> bool:
    """Whether a run has finished, or has diverged and would again."""
    folder = RunFolder(run)
    return folder.exists() and folder.read_record().status in {"finished", "failed"}


def _train(recipe: Recipe, folder: Path, report: Report) -> None:
    def told(progress: Progress) -> None:
        if progress.step % _TOLD_STEPS == 0 or progress.step == progress.num_steps:
            report(progress)

    try:
        train(recipe, folder, on_progress=told)
    except DivergedError:
        # Its record says so, and the page does: one run that diverges does not end the others.
        return
