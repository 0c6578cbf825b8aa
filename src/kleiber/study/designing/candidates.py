"""Which sizes and horizons a ladder for a target may be made of, and what each step of them costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from kleiber.cost import Calibration
from kleiber.errors import RecipeError, UsageError
from kleiber.models import resolve_spec
from kleiber.runs import Convention, ModelRecipe, Recipe
from kleiber.study.designing.grid import Grid, Size
from kleiber.study.plan import plan

__all__ = ["Unit", "grid_of"]

Unit = Literal["flops", "s"]
"""Of a budget: operations [FLOP], or wall clock of the ladder [s]."""

_SIZE_RATIO, _HORIZON_RATIO = 1.5, 1.5
_MOST_SIZES, _MOST_HORIZONS = 10, 8
_LEAST_SIZE_FRAC = 1 / 100
"""N of the smallest rung over the target's: below it runs obey other laws."""
_WARM_UPS = 4
_SHORT_SEQUENCES = 2
"""Times their steps, at least: a run that never saw whole sequences is no row of a law."""
"""Warm-ups that the shortest run holds, for the same reason."""
_NUM_WIDTHS = 400


@dataclass(frozen=True)
class _Asked:
    recipe: Recipe
    factor: float
    unit: Unit
    convention: Convention
    num_workers: int
    calibration: Calibration | None


def grid_of(
    recipe: Recipe,
    *,
    factor: float,
    unit: Unit,
    convention: Convention = "total",
    num_workers: int = 1,
    calibration: Calibration | None = None,
) -> Grid:
    """Return sizes below the target's and horizons up to its own.

    Sizes keep the target's dial but for one key: `params` where it is set, else `width`. No run takes more than
    1/`factor` of the target's compute.

    Args:
        recipe: Of the target.
        factor: Above 1.
        unit: Of costs.
        convention: Which parameters N counts.
        num_workers: Rungs side by side; in FLOP nothing is divided by them.
        calibration: Of this machine, for seconds.

    Raises:
        RecipeError: A target whose size cannot be scaled, or whose horizon leaves no room for shorter ones.
    """
    asked = _Asked(recipe, factor, unit, convention, num_workers, calibration)
    horizons = _horizons(recipe)
    sizes = _sizes(asked)
    most_flops = resolve_spec(recipe).flops(recipe.train.batch_size).total * recipe.train.num_steps / factor
    sizes = [size for size in sizes if size.step_flops * horizons[0] <= most_flops]
    if len(sizes) < 4:
        raise RecipeError(
            f"{len(sizes)} sizes are left below the target: a ladder needs four.",
            hint="a larger target, or a smaller --factor",
        )
    horizons = [steps for steps in horizons if sizes[0].step_flops * steps <= most_flops]
    starts = tuple(recipe.train.schedule.cooldown_start(steps) for steps in horizons)
    grid = Grid(
        sizes=tuple(sizes),
        horizons=tuple(horizons),
        branch_steps=starts,
        tokens_per_step=recipe.tokens_per_step,
        num_workers=1 if unit == "flops" else num_workers,
        most_flops=most_flops,
        tokens_per_param=recipe.num_tokens / resolve_spec(recipe).count().by(convention),
    )
    grid.check()
    return grid


def _horizons(recipe: Recipe) -> list[int]:
    """Return steps from the target's own down, by equal ratios."""
    schedule, last = recipe.train.schedule, recipe.train.num_steps
    shorter = recipe.train.sequence_warmup
    short_steps = 0 if shorter is None else shorter.steps
    least = max(_WARM_UPS * schedule.warmup_steps, _SHORT_SEQUENCES * short_steps, 20)
    found = [round(last / _HORIZON_RATIO**k) for k in range(_MOST_HORIZONS)]
    found = sorted(
        {
            steps
            for steps in found
            if steps >= least and schedule.warmup_steps < schedule.cooldown_start(steps) < steps
        }
    )
    if len(found) < 3:
        raise RecipeError(
            f"A target of {last} steps with a warm-up of {schedule.warmup_steps}, {short_steps} steps of short sequences and a cool-down "
            f"over {schedule.cooldown_frac:g} of a run leaves no shorter horizons for its ladder.",
            hint="other steps by --set base.train.schedule.warmup_steps=..., or fewer samples a step",
        )
    return found


def _sizes(asked: _Asked) -> list[Size]:
    """Return the sizes, smallest first, by about equal ratios of N."""
    target = resolve_spec(asked.recipe)
    whole = target.count().by(asked.convention)
    found: dict[float, ModelRecipe] = {}
    for model in _smaller(asked.recipe.model, target.width):
        try:
            spec = resolve_spec(asked.recipe.model_copy(update={"model": model}))
        except RecipeError:
            continue  # a size that the family cannot take
        own = spec.count().by(asked.convention)
        if _LEAST_SIZE_FRAC * whole <= own < whole / _SIZE_RATIO**0.5:
            found.setdefault(float(own), model)
    kept: list[tuple[float, ModelRecipe]] = []
    for count in sorted(found, reverse=True):
        if not kept or kept[-1][0] >= count * _SIZE_RATIO**0.6:
            kept.append((count, found[count]))
    cost = _cost_of(asked)
    return [_size(asked, count, model, cost) for count, model in reversed(kept[:_MOST_SIZES])]


def _smaller(model: ModelRecipe, width: int) -> Iterator[ModelRecipe]:
    size = model.size
    if "params" in size:
        for k in range(1, 40):
            yield _with(model, params=float(size["params"]) / _SIZE_RATIO ** (k / 2))
        return
    if "width" not in size:
        raise RecipeError(
            "The target's size must be given by its width or its parameters, which smaller ones have less of.",
            got=", ".join(f"{key}={value}" for key, value in size.items()) or "no size",
            hint="--target gpt:depth=4,width=256@20e6",
        )
    # A width that suits no head is refused by the family; those near powers of two come first where widths are many.
    step = max(1, width // _NUM_WIDTHS)
    for smaller in range(width - step, 0, -step):
        yield _with(model, width=smaller)


def _with(model: ModelRecipe, **changes: Any) -> ModelRecipe:
    return ModelRecipe.model_validate({"family": model.family, **model.size, **changes})


def _cost_of(asked: _Asked) -> Callable[[Recipe, float], tuple[float, float]]:
    """Return what gives the cost of a step and of a run beside its steps, of a recipe and its FLOPs a step."""
    if asked.unit == "flops":
        return lambda _, step_flops: (step_flops, 0.0)

    def seconds(recipe: Recipe, _: float) -> tuple[float, float]:
        one = recipe.model_copy(update={"parallel": recipe.parallel.model_copy(update={"num_threads": 1})})
        found = plan(one, calibration=asked.calibration, num_processes=asked.num_workers)
        # A trunk is validated once, and a cool-down seldom more often.
        validations_s = found.total_time_s - recipe.train.num_steps * found.step_time_s
        num_validations = math.ceil(recipe.train.num_steps / recipe.train.val_every)
        return found.step_time_s, max(0.0, validations_s / num_validations)

    return seconds


def _size(
    asked: _Asked, count: float, model: ModelRecipe, cost: Callable[[Recipe, float], tuple[float, float]]
) -> Size:
    recipe = asked.recipe.model_copy(update={"model": model})
    step_flops = float(resolve_spec(recipe).flops(recipe.train.batch_size).total)
    step_cost, run_cost = cost(recipe, step_flops)
    if not (math.isfinite(step_cost) and step_cost > 0):
        raise UsageError("A step of a rung must cost something.", got=step_cost)
    return Size(model, float(count), step_cost, run_cost, step_flops)
