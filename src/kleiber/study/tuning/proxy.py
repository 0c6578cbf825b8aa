"""Trainings of a small model for a design, each at rates of its own."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kleiber.errors import DivergedError, RecipeError
from kleiber.models import resolve_spec
from kleiber.models.gpt import GPTSpec
from kleiber.runs import ModelRecipe, Recipe, RunFolder
from kleiber.study.design import LadderDesign
from kleiber.train import Progress, train
from kleiber.train.start import resolve

__all__ = ["Proxy", "Trial", "base_sized", "proxy_recipe", "resized"]

_MAX_RATE = 10.0
"""Of a recipe."""


@dataclass(frozen=True)
class Trial:
    """Rates over those of the design, as powers of two, and how long."""

    joint: float
    """Of both rates."""
    matrix: float
    """Of the rate of hidden matrices beside that."""
    num_steps: int

    def recipe(self, base: Recipe, seed: int) -> Recipe:
        """Return what to train."""
        optimizer = base.train.optimizer
        rates = {
            "lr": optimizer.lr * 2**self.joint,
            "matrix_lr": optimizer.matrix_lr * 2 ** (self.joint + self.matrix),
        }
        changes = {
            "optimizer": optimizer.model_copy(update=rates),
            "num_steps": self.num_steps,
            "seed": seed,
            # Only the end is looked at.
            "val_every": self.num_steps,
            "checkpoint_every": self.num_steps,
        }
        return base.model_copy(update={"train": base.train.model_copy(update=changes)})

    @property
    def name(self) -> str:
        """Of its run folder, without the seed."""
        return f"h{self.num_steps}-lr{self.joint:+g}-matrix{self.matrix:+g}"


@dataclass(frozen=True)
class Proxy:
    """The small model, and where its trainings stand."""

    base: Recipe
    seeds: tuple[int, ...]
    folder: Path
    report: Callable[[Progress], Any] | None = None

    def loss(self, trial: Trial) -> float:
        """Return the mean validation loss over the seeds; infinite where one diverges, or a recipe takes no such rates.

        What has finished is not trained again.

        Raises:
            DataError: The data is missing, unreadable or too small.
            RecipeError: The trial's folder holds a run of another recipe.
            Interrupted: SIGINT or SIGTERM; what has finished stays.
        """
        optimizer = trial.recipe(self.base, 0).train.optimizer
        if max(optimizer.lr, optimizer.matrix_lr) >= _MAX_RATE:
            return math.inf
        return statistics.fmean(self._loss(trial, seed) for seed in self.seeds)

    def _loss(self, trial: Trial, seed: int) -> float:
        path = self.folder / f"{trial.name}-s{seed}"
        run = RunFolder(path)
        recipe = trial.recipe(self.base, seed)
        if resolve(recipe, run) is not None and run.read_record().is_diverged:
            return math.inf
        try:
            record = train(recipe, path, on_progress=self.report)
        except DivergedError:
            return math.inf
        return record.result.val_loss if record.result else math.inf


def proxy_recipe(design: LadderDesign, model: ModelRecipe | None = None) -> Recipe:
    """Return the base recipe of a design with the model that its rates are tuned on, one thread.

    Args:
        design: Its data is ready.
        model: None takes the smallest of the ladder.
    """
    base = design.base.model_copy(
        update={"parallel": design.base.parallel.model_copy(update={"num_threads": 1})}
    )
    recipes = [base.model_copy(update={"model": model or part.model}) for part in design.parts]
    return min(recipes, key=lambda recipe: resolve_spec(recipe).count().total)


def base_sized(design: LadderDesign) -> tuple[Recipe, int, int]:
    """Return the base recipe with a model of the width and depth at which its rates were tuned, and these two.

    Where the design does not say them they are those of the smallest size.

    Raises:
        RecipeError: The ladder is of no gpt.
    """
    recipe = proxy_recipe(design)
    spec, rule = resolve_spec(recipe), recipe.train.parametrization
    if not isinstance(spec, GPTSpec):
        raise RecipeError(
            "how activations move over widths and depths is known of gpt alone.",
            got=spec.family,
            hint="sizes: [{family: gpt, depth: 2, width: 32}]",
        )
    width, depth = rule.base_width or spec.width, rule.base_depth or spec.depth
    return resized(recipe, spec, width=width, depth=depth), width, depth


def resized(recipe: Recipe, spec: GPTSpec, *, width: int, depth: int) -> Recipe:
    """Return the recipe at another width and depth, with heads of the same size and an MLP that follows the width."""
    size = {**recipe.model.size, "width": width, "depth": depth, "head_dim": spec.head_dim}
    dial = {key: value for key, value in size.items() if key not in {"params", "num_heads", "mlp_width"}}
    model = ModelRecipe.model_validate({"family": "gpt", **dial})
    return recipe.model_copy(update={"model": model})
