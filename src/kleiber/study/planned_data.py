"""What the data of a planned family looks like: as typed, as its source says, or as is usual for the family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kleiber.cost import load_calibration
from kleiber.errors import DataError, RecipeError
from kleiber.models import FAMILIES, parse_size
from kleiber.models.foreign.inputs import parse_inputs
from kleiber.models.hf import HFSpec
from kleiber.models.seen_data import is_modelled, usual_task
from kleiber.runs import DataRecipe, DataShape, Recipe, TaskRecipe

__all__ = ["as_typed", "of_data", "size_recipe"]


def size_recipe(text: str, inputs: Sequence[str] = ()) -> Recipe:
    """Return the recipe of a size such as `resnet:depth=20`, its data as typed or as is usual for the family.

    Args:
        text: Family and size.
        inputs: `--input`, of one sample.

    Raises:
        RecipeError: An unknown family, or an input that is none.

    Example:
        >>> size_recipe("gpt:depth=2").task.name
        'lm'
    """
    model = parse_size(text)
    if model.family == "hf":
        shape = as_typed(inputs, HFSpec.usual_shape(model.size))
    else:
        shape = as_typed(inputs, FAMILIES[model.family].example_shape)
        if is_modelled(shape):
            return Recipe(model=model)
    context = {"context": shape.context} if is_modelled(shape) else {}
    return Recipe(
        model=model, task=TaskRecipe(name=usual_task(shape)), data=DataRecipe(shape=shape, **context)
    )


def as_typed(inputs: Sequence[str], example: DataShape) -> DataShape:
    """Return a shape with the sizes that `--input` gives, of one sample: `30`, `24x1`, `3x32x32`.

    Args:
        inputs: None leaves the example as it is.
        example: Says what is asked of a sample, and the kind of it where the sizes do not.

    Raises:
        RecipeError: Several inputs, another number of sizes, or text, which `--context` is for.

    Example:
        >>> images = DataShape(inputs="images", channels=1, height=28, width=28, num_outputs=10)
        >>> as_typed(["3x32x32"], images).num_inputs, as_typed(["30"], images).inputs
        (3072, 'features')
    """
    if not inputs:
        return example
    if example.inputs in ("tokens", "pairs"):
        raise RecipeError(
            "--input is not for text.", got=" ".join(inputs), hint="--context 512 --vocab-size 8192"
        )
    hint = (
        "--input 3x32x32   (an image), --input 30   (columns), --input 24x1   (steps and values of a series)"
    )
    if len(inputs) > 1:
        raise RecipeError("A family takes one --input.", got=" ".join(inputs), hint=hint)
    sizes = parse_inputs(inputs)[0].size
    kept: dict[str, Any] = {"num_outputs": example.num_outputs}
    match sizes:
        case (channels, height, width) if example.inputs == "captions":
            return example.model_copy(update={"channels": channels, "height": height, "width": width})
        case (channels, height, width):
            return DataShape(inputs="images", channels=channels, height=height, width=width, **kept)
        case (context, num_features):
            return DataShape(inputs="series", context=context, num_features=num_features, **kept)
        case (num_features,):
            return DataShape(inputs="features", num_features=num_features, **kept)
    raise RecipeError("--input of a family is one sample, without the batch.", got=inputs[0], hint=hint)


def of_data(recipe: Recipe) -> Recipe:
    """Return the recipe as its run will settle it, where only its data says how: what they look like, how long an epoch is.

    A recipe that leaves nothing to its data comes back as it is, and its data is not opened.

    Raises:
        DataError: The data cannot be opened; the hint plans without it where that can be.
    """
    if recipe.model.family == "hf" or recipe.data.tokenizer is not None:
        from kleiber.data import with_model_tokenizer  # noqa: PLC0415 - most plans need no data

        recipe = with_model_tokenizer(recipe)
    has_shape = recipe.task.name == "lm" or recipe.data.shape is not None
    if has_shape and not (recipe.train.is_full_batch or recipe.train.stop.is_countable):
        return recipe
    from kleiber.data import open_data  # noqa: PLC0415 - most plans need no data
    from kleiber.study.prediction import settled  # noqa: PLC0415 - brings torch

    try:
        meta = open_data(recipe.data, seed=recipe.train.seed, task=recipe.task).meta
    except DataError as error:
        if has_shape:
            raise
        without = "--input 3x32x32   plans without the data"
        hint = without if error.hint is None else f"{error.hint}   or {without.replace('   ', ', which ')}"
        raise DataError(error.message, got=error.got, hint=hint) from None
    return settled(recipe, meta, load_calibration())
