"""How much a study trains: as many steps as its budget of time leaves, by the measured steps of its own sizes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from kleiber.errors import RecipeError
from kleiber.models import Spec
from kleiber.runs import DataMeta, Document
from kleiber.study.growing.design import Member, StudyDesign
from kleiber.study.growing.overfit import EPOCHS, NUM_PASSES
from kleiber.units import format_count, format_seconds

__all__ = ["MIN_STEPS", "PLAN_FILE", "StudyPlan", "affordable_size", "plan_study"]

PLAN_FILE = "plan.json"
MIN_STEPS = 60
"""Of the runs: fewer teach nothing of training."""
_WANTED_STEPS = 400
"""That the largest size is chosen for."""
_ASSUMED_FLOPS_PER_S = 8e9
"""Of one core in the steps of small models, before anything is measured."""
_OVERHEAD_S_PER_STEP = 0.004
_RESERVED_S = 45.0
"""For latencies, gradients, the baseline and the page."""
_RESERVED_FRAC = 0.1
_PACKING_FRAC = 0.85
"""Of the workers' time that is used: the last runs end at different times, and steps are not all there is."""
_SHORT_FRAC = 0.125
"""Of the runs' steps, for each short run that seeks a rate."""
_SHORT_STEPS = (20, 80)
_USUAL_SHORT_RUNS = 6.5
"""Of a size; a diverged one ends early."""
_TUNING_RUNS = 7.0
"""Short runs' worth of steps that seeking the usual rate takes."""
_REPEATED_FRAC = 0.5
"""Steps on repeated data, of the runs' steps."""
_SAFE_FRAC = 0.95
"""Of the text that is trained on at most once."""


class StudyPlan(Document):
    """What a study will train, and how long that takes."""

    num_steps: int
    """Of every run."""
    short_steps: int
    """Of each short run that seeks a rate."""
    repeated_batches: int
    """That are repeated where overfitting is measured."""
    expected_s: float
    """Training from here on [s]."""
    says: tuple[str, ...]
    """What limited it, a sentence each."""


def affordable_size(
    specs_of: Mapping[float, Sequence[Spec]],
    design_budget_s: float,
    num_workers: int,
    batch_size: int,
    num_seeds: int,
) -> float:
    """Return the largest N whose study is worth its budget by counted operations; the smallest where none is.

    Args:
        specs_of: By the largest N, the sizes of `both`.
        design_budget_s: Wall clock [s].
        num_workers: Runs side by side.
        batch_size: Samples a step.
        num_seeds: Runs of each size.
    """
    room_s = _room_s(design_budget_s) * num_workers

    def cost_s(specs: Sequence[Spec]) -> float:
        step_s = sum(
            spec.flops(batch_size).total / _ASSUMED_FLOPS_PER_S + _OVERHEAD_S_PER_STEP * spec.depth
            for spec in specs
        )
        # The lines of depth and of width cost about as much as this one with a single seed each.
        return _WANTED_STEPS * step_s * (num_seeds + 2 + 3 * _USUAL_SHORT_RUNS * _SHORT_FRAC + _repeated())

    fitting = [high for high, specs in specs_of.items() if cost_s(specs) <= room_s]
    return max(fitting, default=min(specs_of))


def plan_study(
    design: StudyDesign,
    members: Sequence[Member],
    step_times_s: Mapping[str, float],
    meta: DataMeta,
    elapsed_s: float,
) -> StudyPlan:
    """Return how many steps fit into what is left of the budget.

    Args:
        design: What is trained.
        members: All sizes.
        step_times_s: Of each, measured with as many side by side.
        meta: Of the data: a text is not repeated in the runs.
        elapsed_s: Of the budget that is gone.

    Raises:
        RecipeError: Not even the fewest steps fit into the budget, or the text is too short for them.
    """
    room_s = (_room_s(design.budget_s) - elapsed_s) * design.num_workers * _PACKING_FRAC
    room_s -= sum(step_times_s[one.name] * _num_runs(one, design) for one in members) * _judged_steps(
        design, meta
    )
    per_step_s = sum(step_times_s[one.name] * _runs_of(one, design) for one in members)
    reference = next(one for one in members if one.model == design.reference)
    per_step_s += step_times_s[reference.name] * _TUNING_RUNS * _SHORT_FRAC
    num_steps = math.floor(room_s / per_step_s)
    says = [
        f"By measured steps of every size, {num_steps} steps a run fit into {format_seconds(design.budget_s)}."
    ]
    if num_steps < MIN_STEPS:
        needed_s = MIN_STEPS * per_step_s / design.num_workers / _PACKING_FRAC + elapsed_s + _RESERVED_S
        raise RecipeError(
            f"a budget of {format_seconds(design.budget_s)} leaves {max(0, num_steps)} steps for each run of "
            f"{len(members)} sizes up to {format_count(members[-1].num_params)} parameters, and {MIN_STEPS} are the least.",
            hint=f"--budget-s {math.ceil(needed_s / (1 - _RESERVED_FRAC) / 10) * 10}   or a smaller --params",
        )
    if meta.unit == "token":
        most = math.floor(_SAFE_FRAC * meta.num_train_tokens / design.base.tokens_per_step)
        if most < num_steps:
            num_steps = most
            if num_steps < MIN_STEPS:
                raise RecipeError(
                    f"a text of {meta.num_train_tokens} tokens is {num_steps} steps of {design.base.tokens_per_step}, read once, and "
                    f"{MIN_STEPS} are the least.",
                    hint="a longer text, or fewer a step: --set train.batch_size=1",
                )
            says.append(f"The text is read once: {num_steps} steps.")
    repeated = max(4, round(num_steps * _REPEATED_FRAC / EPOCHS[-1]))
    return StudyPlan(
        num_steps=num_steps,
        short_steps=min(_SHORT_STEPS[1], max(_SHORT_STEPS[0], round(num_steps * _SHORT_FRAC))),
        repeated_batches=repeated,
        expected_s=num_steps * per_step_s / design.num_workers / _PACKING_FRAC,
        says=tuple(says),
    )


def _room_s(budget_s: float) -> float:
    return budget_s * (1 - _RESERVED_FRAC) - min(_RESERVED_S, budget_s / 4)


def _runs_of(member: Member, design: StudyDesign) -> float:
    """Return how many runs' worth of steps a size takes."""
    repeated = _repeated() if "both" in member.lines else 0.0
    return _num_runs(member, design) + repeated + _USUAL_SHORT_RUNS * _SHORT_FRAC


def _num_runs(member: Member, design: StudyDesign) -> int:
    return len(design.seeds) if "both" in member.lines else 1


def _judged_steps(design: StudyDesign, meta: DataMeta) -> float:
    """Return how many steps a run's validation and test take as long as: a pass forward is a third of a step."""
    # The test split is read twice: for its measures, and for the samples that a person is shown.
    num_samples = meta.num_val_tokens + 2 * meta.num_test_tokens
    return num_samples / design.base.tokens_per_step / 3


def _repeated() -> float:
    return _REPEATED_FRAC * NUM_PASSES / EPOCHS[-1]
