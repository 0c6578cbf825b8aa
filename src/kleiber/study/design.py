"""The design of a ladder: which sizes, seeds and horizons it trains, and the target it is for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from kleiber.errors import RecipeError
from kleiber.models import Spec, resolve_spec
from kleiber.runs import Convention, Document, ModelRecipe, Recipe, StopRecipe
from kleiber.runs.recipe import assign

__all__ = [
    "LadderDesign",
    "Rung",
    "RungDesign",
    "TargetDesign",
    "WithinDesign",
    "branch_step",
    "read_design",
    "rungs_of",
    "target_recipe",
]


# Bounds as a recipe's own: what a rung's recipe is made of has passed no other check.
_Steps = Annotated[int, Field(ge=1, le=10**9)]
_Seed = Annotated[int, Field(ge=0, lt=2**31)]


class TargetDesign(Document):
    """The bigger run that the ladder is for."""

    model: ModelRecipe
    num_steps: _Steps
    seed: _Seed = 0
    num_threads: int | None = Field(default=None, ge=1, le=4096)
    """CPU threads; None takes all cores."""


class RungDesign(Document):
    """One size with seeds and horizons of its own."""

    model: ModelRecipe
    seeds: tuple[_Seed, ...] = Field(min_length=1, max_length=100)
    """A trunk is trained with each."""
    horizons: tuple[_Steps, ...] = Field(min_length=1, max_length=100)
    """Steps at which a branch of each trunk ends, shortest first."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_order(self.seeds, self.horizons)
        return self


class WithinDesign(Document):
    """What a designed ladder was designed within: `kleiber ladder run --adaptive` plans its rest anew within the same."""

    amount: float = Field(gt=0)
    """The budget, in its unit."""
    unit: Literal["flops", "s"]
    """Training operations [FLOP], or wall clock of the ladder [s]."""
    factor: float = Field(default=10.0, gt=1)
    """Compute of the target over that of the dearest run, at least."""


class LadderDesign(Document):
    """What a ladder trains: every size with all seeds and horizons, or rungs of which each has its own."""

    help_line = "kleiber schema ladder   says what a ladder takes"

    base: Recipe = Recipe()
    """What all runs share; `model`, `train.num_steps` and `train.seed` are replaced by each run's own."""
    sizes: tuple[ModelRecipe, ...] = Field(default=(), max_length=100)
    """Size of each rung, smallest first."""
    seeds: tuple[_Seed, ...] = Field(default=(0, 1), min_length=1, max_length=100)
    """Every size is trained with each."""
    horizons: tuple[_Steps, ...] = Field(default=(), max_length=100)
    """Steps at which a branch ends, shortest first."""
    rungs: tuple[RungDesign, ...] = Field(default=(), max_length=200)
    """Instead of sizes, seeds and horizons: what `kleiber ladder design` writes. A size may stand in several."""
    target: TargetDesign
    num_workers: int = Field(default=2, ge=1, le=4096)
    """Rungs trained side by side, one thread each."""
    count: Convention = "total"
    """Which parameters the law's N counts."""
    within: WithinDesign | None = None
    """Set by `kleiber ladder design`."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.rungs and (self.sizes or self.horizons):
            raise ValueError("a ladder has rungs, or sizes and horizons, not both")
        if not self.rungs and not (self.sizes and self.horizons):
            raise ValueError("a ladder needs sizes and horizons, or rungs")
        _check_order(self.seeds, self.horizons)
        if self.base.train.stop != StopRecipe():
            raise ValueError("base.train.stop must be left out: horizons say where the runs of a ladder stop")
        if self.base.train.schedule.name != "wsd":
            raise ValueError(
                f"base.train.schedule.name must be wsd, whose trunk branches can leave, got {self.base.train.schedule.name}"
            )
        return self

    @property
    def parts(self) -> tuple[RungDesign, ...]:
        """The rungs, however they were written."""
        return self.rungs or tuple(
            RungDesign(model=size, seeds=self.seeds, horizons=self.horizons) for size in self.sizes
        )

    @property
    def most_steps(self) -> int:
        """Of the longest run, the target included."""
        return max(self.target.num_steps, *(part.horizons[-1] for part in self.parts))

    def with_values(self, assignments: Sequence[str]) -> LadderDesign:
        """Return the design with `a.b=value` assignments applied, such as `base.data.context=64`.

        Raises:
            RecipeError: An assignment is malformed, names an unknown key or breaks a constraint.
        """
        return LadderDesign.of(
            assign(self.model_dump(mode="json", exclude_unset=True), assignments), "the ladder", RecipeError
        )


@dataclass(frozen=True)
class Rung:
    """One size with one seed: a trunk and the branches that leave it."""

    trunk: str
    trunk_recipe: Recipe
    branches: tuple[tuple[str, Recipe], ...]
    """Name and recipe of each branch, shortest first; it leaves the trunk where its cool-down starts."""
    spec: Spec

    @property
    def num_steps(self) -> int:
        """Steps trained in all: the trunk once, and every branch's cool-down."""
        cooldowns = (r.train.num_steps - branch_step(r) for _, r in self.branches)
        return self.trunk_recipe.train.num_steps + sum(cooldowns)


def _check_order(seeds: Sequence[int], horizons: Sequence[int]) -> None:
    if any(a >= b for a, b in pairwise(horizons)):
        raise ValueError(f"horizons must rise, got {list(horizons)}")
    if len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds must differ, got {list(seeds)}")


def branch_step(recipe: Recipe) -> int:
    """Return the step at which a branch leaves its trunk."""
    return recipe.train.schedule.cooldown_start(recipe.train.num_steps)


def read_design(path: Path) -> LadderDesign:
    """Return the design in a YAML file.

    Raises:
        RecipeError: It is missing, not YAML, has an unknown key or breaks a constraint.
    """
    return LadderDesign.read(path, RecipeError)


def rungs_of(design: LadderDesign) -> list[Rung]:
    """Return the rungs in the order of the design, of each size its seeds.

    Raises:
        RecipeError: Two sizes are the same, or a horizon is too short for warm-up and cool-down.
    """
    rungs = [_rung(design, part, seed) for part in design.parts for seed in part.seeds]
    names = [rung.trunk for rung in rungs]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise RecipeError("the sizes of a ladder must differ in depth or width.", got=", ".join(doubled))
    return rungs


def target_recipe(design: LadderDesign) -> Recipe:
    """Return the recipe of the target: the base's, with its own size, steps and seed."""
    target = design.target
    recipe = _sized(design, target.model, target.seed, target.num_steps)
    return recipe.model_copy(
        update={"parallel": recipe.parallel.model_copy(update={"num_threads": target.num_threads})}
    )


def _rung(design: LadderDesign, part: RungDesign, seed: int) -> Rung:
    recipes = [_with_horizon(_sized(design, part.model, seed, steps), part) for steps in part.horizons]
    spec = resolve_spec(recipes[0])
    trunk = f"d{spec.depth}-w{spec.width}-s{seed}"
    starts = [branch_step(recipe) for recipe in recipes]
    schedule = design.base.train.schedule
    if starts[0] <= schedule.warmup_steps or starts[0] == part.horizons[0]:
        raise RecipeError(
            f"the shortest horizon of {part.horizons[0]} steps must hold the warm-up of {schedule.warmup_steps} "
            "steps and a cool-down.",
            got=f"cooldown_frac {schedule.cooldown_frac}",
            hint="horizons: [1000, 1800, 3200]",
        )
    train = recipes[0].train.model_copy(
        update={
            "num_steps": starts[-1],
            "branch_steps": tuple(starts),
            "schedule": schedule.model_copy(update={"cooldown_frac": 0.0}),
            # A trunk is not a row of the law: one validation at its end is enough.
            "val_every": starts[-1],
        }
    )
    branches = tuple((f"{trunk}-h{recipe.train.num_steps}", recipe) for recipe in recipes)
    return Rung(trunk, recipes[0].model_copy(update={"train": train}), branches, spec)


def _with_horizon(recipe: Recipe, part: RungDesign) -> Recipe:
    """Return the recipe with the rates of the longest horizon, where rates depend on it: all that leave one trunk share them."""
    rule = recipe.train.parametrization
    if rule.base_tokens is None or rule.horizon_tokens is not None:
        return recipe
    longest = float(part.horizons[-1] * recipe.tokens_per_step)
    train = recipe.train.model_copy(
        update={"parametrization": rule.model_copy(update={"horizon_tokens": longest})}
    )
    return recipe.model_copy(update={"train": train})


def _sized(design: LadderDesign, size: ModelRecipe, seed: int, num_steps: int) -> Recipe:
    base = design.base
    recipe = base.model_copy(
        update={"model": size, "parallel": base.parallel.model_copy(update={"num_threads": 1})}
    )
    changes = {"num_steps": num_steps, "seed": seed}
    return recipe.model_copy(update={"train": base.train.model_copy(update=changes)})
