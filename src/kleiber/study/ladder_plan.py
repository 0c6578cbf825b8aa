"""What a ladder and its target will need, before anything runs. No torch."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from kleiber.cost import Calibration, MemoryBytes
from kleiber.runs import Document, ParamCount, Recipe, now
from kleiber.study.design import LadderDesign, Rung, branch_step, rungs_of, target_recipe
from kleiber.study.plan import plan

__all__ = ["LadderPlan", "RunPlan", "plan_ladder"]


class RunPlan(Document):
    """Of one rung with all its branches, or of the target."""

    name: str
    num_params: ParamCount
    num_tokens: int
    """Trained on in all: the trunk once, and every branch's cool-down."""
    train_flops: float
    memory_bytes: MemoryBytes
    step_time_s: float
    total_time_s: float


class LadderPlan(Document):
    """Of a ladder and its target."""

    rungs: tuple[RunPlan, ...]
    target: RunPlan
    num_workers: int
    """Rungs trained side by side."""
    ladder_time_s: float
    """Wall clock of all rungs, `num_workers` at a time."""
    total_time_s: float
    """Wall clock of rungs and target."""
    total_flops: float
    assumptions: tuple[str, ...]
    created_at: str
    """UTC, ISO 8601."""


def plan_ladder(design: LadderDesign, calibration: Calibration | None = None) -> LadderPlan:
    """Return what a design needs.

    Args:
        design: What to train.
        calibration: Of this machine; without it times are assumed from the device table's CPU.

    Raises:
        RecipeError: The design breaks a rule.
    """
    rungs = [_rung_plan(rung, design, calibration) for rung in rungs_of(design)]
    target, assumptions = _run_plan("target", target_recipe(design), calibration, num_processes=1)
    ladder_time_s = _makespan([rung.total_time_s for rung in rungs], design.num_workers)
    return LadderPlan(
        rungs=tuple(rungs),
        target=target,
        num_workers=design.num_workers,
        ladder_time_s=ladder_time_s,
        total_time_s=ladder_time_s + target.total_time_s,
        total_flops=sum(rung.train_flops for rung in rungs) + target.train_flops,
        assumptions=assumptions,
        created_at=now(),
    )


def _rung_plan(rung: Rung, design: LadderDesign, calibration: Calibration | None) -> RunPlan:
    trunk, _ = _run_plan(rung.trunk, rung.trunk_recipe, calibration, num_processes=design.num_workers)
    parts = [trunk]
    for name, recipe in rung.branches:
        train = recipe.train.model_copy(update={"num_steps": recipe.train.num_steps - branch_step(recipe)})
        cooldown = recipe.model_copy(update={"train": train})
        parts.append(_run_plan(name, cooldown, calibration, num_processes=design.num_workers)[0])
    return trunk.model_copy(
        update={
            "num_tokens": sum(part.num_tokens for part in parts),
            "train_flops": sum(part.train_flops for part in parts),
            "total_time_s": sum(part.total_time_s for part in parts),
        }
    )


def _run_plan(
    name: str, recipe: Recipe, calibration: Calibration | None, *, num_processes: int
) -> tuple[RunPlan, tuple[str, ...]]:
    found = plan(recipe, calibration=calibration, num_processes=num_processes)
    run = RunPlan(
        name=name,
        num_params=found.num_params,
        num_tokens=found.num_tokens,
        train_flops=found.train_flops,
        memory_bytes=found.memory_bytes,
        step_time_s=found.step_time_s,
        total_time_s=found.total_time_s,
    )
    return run, found.assumptions


def _makespan(times_s: Sequence[float], num_workers: int) -> float:
    """Return when the last job ends if the longest start first and a free worker takes the next [s].

    Example:
        >>> _makespan([3.0, 3.0, 2.0, 2.0, 2.0], 2)
        7.0
    """
    ends = [0.0] * num_workers
    for time_s in sorted(times_s, reverse=True):
        heapq.heapreplace(ends, ends[0] + time_s)
    return max(ends)
