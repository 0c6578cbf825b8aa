"""The demo's ladder, sized to the machine."""

from __future__ import annotations

from kleiber.cost import Calibration
from kleiber.runs import DataRecipe, ModelRecipe, Recipe, ScheduleRecipe, TrainRecipe
from kleiber.runs.recipe import OptimizerRecipe
from kleiber.study.design import LadderDesign, TargetDesign
from kleiber.study.ladder_plan import LadderPlan, plan_ladder

__all__ = ["BUDGET_S", "demo_design", "fit_to_machine"]

BUDGET_S = 330.0
"""Training that the demo plans for [s]: eight minutes less preparation, report and what a plan is off."""

_WIDTHS = (32, 48, 64, 80)
_TARGET_WIDTH = 112
_DEPTH = 2
_HORIZONS = (1000, 1800, 3200)
_TARGET_STEPS = 6400
_STRETCHES = (1.0,)


def demo_design(seed: int, stretch: float = 1.0) -> LadderDesign:
    """Return the demo's ladder: four widths with two seeds each, three horizons, a target twice as wide and long.

    Args:
        seed: Of the whole demo; every run's own follows from it.
        stretch: Factor on all horizons, at least 1: below a thousand steps small models obey no law.
    """
    optimizer = OptimizerRecipe(name="adamw", lr=0.02, matrix_lr=0.004)
    schedule = ScheduleRecipe(warmup_steps=50, cooldown_frac=0.25)
    train = TrainRecipe(
        batch_size=4,
        optimizer=optimizer,
        schedule=schedule,
        log_every=50,
        val_every=10_000,
        checkpoint_every=1000,
    )
    return LadderDesign(
        base=Recipe(data=DataRecipe(source="stdlib", vocab_size=1024, context=128), train=train),
        sizes=tuple(_gpt(width) for width in _WIDTHS),
        seeds=(2 * seed, 2 * seed + 1),
        horizons=tuple(round(steps * stretch) for steps in _HORIZONS),
        target=TargetDesign(model=_gpt(_TARGET_WIDTH), num_steps=round(_TARGET_STEPS * stretch), seed=seed),
        rate_width=64,
        num_workers=2,
    )


def fit_to_machine(
    seed: int, calibration: Calibration, budget_s: float = BUDGET_S
) -> tuple[LadderDesign, LadderPlan]:
    """Return the longest design whose plan stays within `budget_s`, the shortest when none does."""
    designs = [demo_design(seed, stretch) for stretch in _STRETCHES]
    plans = [plan_ladder(design, calibration) for design in designs]
    fitting = [pair for pair in zip(designs, plans, strict=True) if pair[1].total_time_s <= budget_s]
    return fitting[-1] if fitting else (designs[0], plans[0])


def _gpt(width: int) -> ModelRecipe:
    return ModelRecipe.model_validate({"family": "gpt", "depth": _DEPTH, "width": width})
