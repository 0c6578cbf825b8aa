"""What a recipe leaves open and a run settles when it starts: from then on the recipe says everything."""

from __future__ import annotations

import math

from kleiber.errors import RecipeError
from kleiber.models import resolve_spec, size_of
from kleiber.runs import DataMeta, ModelRecipe, Recipe
from kleiber.train.recipe_checks import check_batches, check_models_text
from kleiber.units import format_count

__all__ = ["as_settled", "settle"]


def settle(recipe: Recipe, meta: DataMeta, *, num_threads: int, step_time_s: float | None = None) -> Recipe:
    """Return the recipe with every open choice but the micro-batch written out.

    Args:
        recipe: What to do.
        meta: Of its data.
        num_threads: Where the recipe leaves them open.
        step_time_s: By the plan, for a limit on money.

    Raises:
        RecipeError: The model cannot learn the task, a batch is larger than the training split or too small to be mixed up,
            a limit allows no step, or one on money has no price or no plan.
    """
    recipe = recipe.with_shape(meta.shape)
    spec = resolve_spec(recipe)
    check_models_text(recipe, spec)
    # The data says vocabulary and shape; a size that said them too could contradict it.
    size = size_of(spec)
    recipe = recipe.with_whole_batch(meta.num_train_tokens)
    train = recipe.train
    if train.batch_size % train.accumulation:
        raise RecipeError(
            f"train.accumulation must divide the full batch of {train.batch_size} samples.",
            got=train.accumulation,
            hint="--set train.accumulation=1",
        )
    parallel = recipe.parallel.model_copy(update={"num_threads": recipe.parallel.num_threads or num_threads})
    recipe = recipe.model_copy(update={"model": ModelRecipe(**size), "parallel": parallel})
    check_batches(recipe, spec, meta)
    return _within_limits(recipe, meta, step_time_s)


def as_settled(recipe: Recipe, known: Recipe, meta: DataMeta, *, step_time_s: float | None = None) -> Recipe:
    """Return the recipe with its open choices as an earlier run settled them.

    Args:
        recipe: As typed.
        known: Of the run.
        meta: Of its data.
        step_time_s: As the run was told.

    Raises:
        RecipeError: A limit that the run did not have allows no step, or is on money and has no price or no plan.
    """
    recipe = recipe.with_shape(known.data.shape)
    train, done = recipe.train, known.train
    settled: dict[str, object] = {}
    if train.is_full_batch:
        settled["batch_size"] = done.batch_size
    if train.fits_memory:
        settled["accumulation"] = done.accumulation
    if train.compile == "auto":
        settled["compile"] = done.compile
    size = size_of(resolve_spec(recipe))
    num_threads = recipe.parallel.num_threads or known.parallel.num_threads
    recipe = recipe.model_copy(
        update={
            "model": ModelRecipe(**size),
            "train": train.model_copy(update=settled),
            "parallel": recipe.parallel.model_copy(update={"num_threads": num_threads}),
        }
    )
    return _within_limits(recipe, meta, step_time_s)


def _within_limits(recipe: Recipe, meta: DataMeta, step_time_s: float | None) -> Recipe:
    """Return the recipe with the steps that its countable limits leave."""
    train = recipe.train
    if not train.stop.is_countable:
        return recipe
    steps = min(train.num_steps, _most_steps(recipe, meta, step_time_s))
    return recipe.model_copy(update={"train": train.model_copy(update={"num_steps": steps})})


def _most_steps(recipe: Recipe, meta: DataMeta, step_time_s: float | None) -> int:
    """Return the steps within every countable limit."""
    stop, train = recipe.train.stop, recipe.train
    limits: dict[str, float] = {}
    if stop.tokens is not None:
        limits["tokens"] = stop.tokens / recipe.tokens_per_step
    if stop.epochs is not None:
        limits["epochs"] = stop.epochs * meta.num_train_tokens / recipe.tokens_per_step
    if stop.flops is not None:
        limits["flops"] = stop.flops / resolve_spec(recipe).flops(train.batch_size).total
    if stop.usd is not None:
        limits["usd"] = _paid_steps(stop.usd, stop.usd_per_hour, step_time_s)
    name, most = min(limits.items(), key=lambda item: item[1])
    # A last step of which the limit leaves half or more is taken: an epoch may end inside it.
    num_steps = math.floor(most + 0.5)
    if num_steps < 1:
        raise RecipeError(
            f"train.stop.{name} allows no step: a step takes {format_count(1 / most)} times as much.",
            got=getattr(stop, name),
            hint=f"--set train.stop.{name}={getattr(stop, name) / most * 100:.3g}   for a hundred steps",
        )
    return num_steps


def _paid_steps(usd: float, usd_per_hour: float | None, step_time_s: float | None) -> float:
    if usd_per_hour is None:
        raise RecipeError(
            "train.stop.usd needs the price of this machine.", hint="--set train.stop.usd_per_hour=0.5"
        )
    if step_time_s is None:
        raise RecipeError(
            "train.stop.usd needs a predicted step time, which `kleiber train` makes.",
            hint="kleiber train recipe.yaml",
        )
    return usd / usd_per_hour * 3600 / step_time_s
