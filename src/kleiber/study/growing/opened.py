"""The data of short runs, opened once a process: opening samples fits their normalization, again and again."""

from __future__ import annotations

import functools

from kleiber.data import Data, open_data
from kleiber.runs import Recipe

__all__ = ["opened"]


def opened(recipe: Recipe) -> Data:
    """Return the data of a recipe, its order by the recipe's seed."""
    asked = Recipe(data=recipe.data, task=recipe.task)
    return _opened(asked.model_dump_json(), recipe.train.seed)


@functools.lru_cache(maxsize=2)
def _opened(asked: str, seed: int) -> Data:
    recipe = Recipe.model_validate_json(asked)
    return open_data(recipe.data, seed=seed, task=recipe.task)
