"""The demo's ladder, sized to the machine."""

from __future__ import annotations

from dataclasses import dataclass

from kleiber.cost import Calibration
from kleiber.runs import (
    DataRecipe,
    ModelRecipe,
    ParametrizationRecipe,
    Recipe,
    ScheduleRecipe,
    TrainRecipe,
)
from kleiber.runs.recipe import OptimizerRecipe
from kleiber.study.design import LadderDesign, TargetDesign
from kleiber.study.ladder_plan import LadderPlan, plan_ladder

__all__ = ["BUDGET_S", "MAX_SEED", "demo_designs", "fit_to_machine"]

BUDGET_S = 300.0
"""Training that the demo plans for [s]: eight minutes less preparation and report, and room for busy neighbours."""

MAX_SEED = 2_000_000
"""Largest seed of a demo."""

_DEPTH = 2
_WIDTHS = (16, 32, 48, 64)
# Four times the parameters of the largest rung at 1.2 times its longest horizon. A sum of a term in N and a term in D
# cannot say that larger models gain more from more tokens, which ours do: the further in D, the higher the forecast
# of this form, 2 to 4% too high for twice both (docs/log.md).
_TARGET_WIDTH = 144
_SEEDS_A_DEMO = 1000
"""Each demo's runs take their seeds from a range of their own."""


@dataclass(frozen=True)
class _Extent:
    """How much a demo trains."""

    horizons: tuple[int, ...]
    target_steps: int
    num_seeds: int


_EXTENTS = (
    _Extent((1000, 1300, 1700), 2050, 2),
    _Extent((1400, 1850, 2400), 2900, 2),
    _Extent((1400, 1850, 2400), 2900, 3),
    _Extent((1400, 1850, 2400), 2900, 4),
)
"""Least first; a slow machine gets the first, one as fast as two AVX-512 cores the last."""


def demo_designs(seed: int) -> tuple[LadderDesign, ...]:
    """Return the demo's ladders, cheapest first: four widths, three horizons, a target of four times the compute.

    Args:
        seed: Of the whole demo, 0 to `MAX_SEED`; every run's own follows from it.
    """
    return tuple(_design(seed, extent) for extent in _EXTENTS)


def fit_to_machine(
    seed: int, calibration: Calibration, budget_s: float = BUDGET_S
) -> tuple[LadderDesign, LadderPlan]:
    """Return the largest of the demo's designs whose plan stays within `budget_s`; the smallest when none does."""
    designs = demo_designs(seed)
    plans = [plan_ladder(design, calibration) for design in designs]
    fitting = [pair for pair in zip(designs, plans, strict=True) if pair[1].total_time_s <= budget_s]
    return fitting[-1] if fitting else (designs[0], plans[0])


def _design(seed: int, extent: _Extent) -> LadderDesign:
    first = seed * _SEEDS_A_DEMO
    train = TrainRecipe(
        batch_size=4,
        optimizer=OptimizerRecipe(name="adamw", lr=0.02, matrix_lr=0.004),
        parametrization=ParametrizationRecipe(name="mup_simple", base_width=64),
        schedule=ScheduleRecipe(warmup_steps=200, cooldown_frac=0.25),
        log_every=50,
        val_every=10_000,
        checkpoint_every=1000,
    )
    return LadderDesign(
        base=Recipe(data=DataRecipe(source="stdlib", vocab_size=1024, context=128), train=train),
        sizes=tuple(_gpt(width) for width in _WIDTHS),
        seeds=tuple(range(first + 1, first + 1 + extent.num_seeds)),
        horizons=extent.horizons,
        target=TargetDesign(model=_gpt(_TARGET_WIDTH), num_steps=extent.target_steps, seed=first),
        num_workers=2,
    )


def _gpt(width: int) -> ModelRecipe:
    return ModelRecipe.model_validate({"family": "gpt", "depth": _DEPTH, "width": width, "head_dim": 16})
