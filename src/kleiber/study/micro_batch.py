"""The largest micro-batch that fits the free memory, by the plan; what is learnt stays the same."""

from __future__ import annotations

from bisect import bisect_left

from kleiber.data import open_data, with_model_tokenizer
from kleiber.errors import RecipeError
from kleiber.models import resolve_spec
from kleiber.runs import Recipe, free_memory_bytes
from kleiber.study.recipe_cost import recipe_cost
from kleiber.train.recover.filled import with_donor
from kleiber.units import format_bytes

__all__ = ["fit_micro_batch"]

_HELD_FRAC = 1.5
"""What a process holds over what its tensors take, where it keeps freed blocks (`parallel.keeps_freed_memory`)."""
_FREE_FRAC = 0.9
"""Of the free memory that a run may take: others use the machine too."""


def fit_micro_batch(recipe: Recipe, *, limit_bytes: float | None = None) -> tuple[Recipe, str]:
    """Return the recipe with as few micro-batches as fit, and a sentence that says so.

    The gradients of micro-batches add up to that of the whole batch, but for rounding, and but for what looks at a batch as
    a whole: batch normalization, mixup and the balance of experts see a micro-batch at a time.

    Args:
        recipe: With `train.fits_memory`; its own accumulation is the fewest that is tried.
        limit_bytes: Memory of the run; None is what this machine has free.

    Raises:
        RecipeError: Not even one sample at a time fits.
        DataError: The data is missing or unreadable.
    """
    recipe = with_model_tokenizer(with_donor(recipe))
    train = recipe.train
    free = limit_bytes if limit_bytes is not None else _FREE_FRAC * free_memory_bytes()
    if train.is_full_batch or (recipe.unit == "sample" and recipe.data.shape is None):
        meta = open_data(recipe.data, seed=train.seed, task=recipe.task).meta
        recipe = recipe.with_shape(meta.shape).with_whole_batch(meta.num_train_tokens)
        train = recipe.train
    choices = [n for n in range(train.accumulation, train.batch_size + 1) if train.batch_size % n == 0]
    first = bisect_left(choices, True, key=lambda n: _peak_bytes(_with(recipe, n)) <= free)
    if first == len(choices):
        least = _peak_bytes(_with(recipe, choices[-1]))
        raise RecipeError(
            f"the run does not fit: one sample at a time takes {format_bytes(least)} of {format_bytes(free)} free.",
            hint="a smaller model, or --set data.context=64",
        )
    chosen = _with(recipe, choices[first])
    size = train.batch_size // choices[first]
    return chosen, (
        f"Micro-batches of {size}, {choices[first]} a step: {format_bytes(_peak_bytes(chosen))} by the plan, "
        f"{format_bytes(free)} free."
    )


def _with(recipe: Recipe, accumulation: int) -> Recipe:
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"accumulation": accumulation})})


def _peak_bytes(recipe: Recipe) -> float:
    held = _HELD_FRAC if recipe.parallel.keeps_freed_memory else 1.0
    return held * recipe_cost(recipe, resolve_spec(recipe), "fp32").memory.summary().peak
