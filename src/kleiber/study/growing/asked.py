"""What a study is asked for, and what is usual where nothing is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kleiber.errors import RecipeError
from kleiber.runs import ModelRecipe, Recipe, TaskName
from kleiber.runs.presets import laid_over
from kleiber.runs.recipe import assign

__all__ = ["Asked", "usual_recipe"]

_TEXT_SOURCES = ("stdlib", "text")
_TASKS: dict[str, TaskName] = {
    **dict.fromkeys(_TEXT_SOURCES, "lm"),
    "diabetes": "regression",
    "series": "regression",
    "pairs": "seq2seq",
}
"""Of sources that are not of classes."""
_OF_TEXT = ("data.vocab_size=512", "data.context=128", "data.val_tokens=32768", "train.batch_size=8")
_OF_SAMPLES = ("train.batch_size=64", "train.optimizer.lr=0.002")
_OF_WSD = ("train.schedule.cooldown_frac=0.3",)


@dataclass(frozen=True)
class Asked:
    """What a study is asked for."""

    base: Recipe
    """Family, data, task and whatever all runs share."""
    budget_s: float
    """Wall clock [s]."""
    decades: float = 1.5
    """Of N."""
    low: float | None = None
    """Smallest N; None follows from the largest."""
    high: float | None = None
    """Largest N; None takes what the budget is worth."""
    num_sizes: int = 7
    num_seeds: int = 3
    num_workers: int = 1
    seed: int = 0


def usual_recipe(model: ModelRecipe, source: str | None, sets: Sequence[str]) -> Recipe:
    """Return the recipe of a family on a source where nothing else is said.

    Args:
        model: The family, with what is fixed of its size.
        source: None is the standard library's text of a gpt, and handwritten digits of all else.
        sets: `a.b=value` assignments over what is usual. Of a preset that they name, too, everything stands over it.

    Raises:
        RecipeError: An assignment is malformed, names an unknown key or breaks a constraint.

    Example:
        >>> recipe = usual_recipe(ModelRecipe(family="mlp"), None, ["train.batch_size=32"])
        >>> recipe.data.source, recipe.task.name, recipe.train.batch_size
        ('digits', 'classification', 32)
    """
    source = source or ("stdlib" if model.family in {"gpt", "rnn"} else "digits")
    task = "contrastive" if model.family == "dual" else _TASKS.get(source.partition(":")[0], "classification")
    asked = assign({"model": model.model_dump(), "data": {"source": source}, "task": {"name": task}}, sets)
    if asked.get("preset") is not None:
        asked = Recipe.of(asked, "the recipe", RecipeError).model_dump(mode="json", exclude_unset=True)
    return Recipe.of(laid_over(_usual(asked, task), asked), "the recipe", RecipeError)


def _usual(asked: Mapping[str, Any], task: TaskName) -> dict[str, Any]:
    """Return what is usual of a task; no cool-down where another schedule is asked for."""
    of_task = _OF_TEXT if task == "lm" else _OF_SAMPLES
    train = asked.get("train")
    schedule = train.get("schedule") if isinstance(train, dict) else None
    is_wsd = not isinstance(schedule, dict) or schedule.get("name", "wsd") == "wsd"
    return assign({}, [*of_task, *(_OF_WSD if is_wsd else ())])
