"""What of its data follows from a recipe's model: a model of transformers reads texts by its own tokenizer."""

from __future__ import annotations

from pathlib import Path

from kleiber.data.given_tokenizer import given_tokenizer, holds_tokenizer, is_path
from kleiber.errors import RecipeError
from kleiber.runs import DataShape, Recipe

__all__ = ["with_model_tokenizer"]


def with_model_tokenizer(recipe: Recipe) -> Recipe:
    """Return the recipe with the tokenizer of its model's folder, where it has one and the recipe names none.

    Of text that is modelled, the vocabulary of a tokenizer that is not trained here follows at once. A model that starts from
    scratch leaves it to a recipe that asks for a vocabulary of its own to train a tokenizer.

    Raises:
        RecipeError: A pretrained model has no tokenizer beside it, or its path leads nowhere.
        DataError: `data.tokenizer` cannot be opened, or contradicts `data.vocab_size`.
        MissingExtraError: It needs transformers, which is not installed.

    Example:
        >>> with_model_tokenizer(Recipe()) == Recipe()
        True
    """
    size, data = recipe.model.size, recipe.data
    if recipe.model.family == "hf" and data.tokenizer is None and _has_texts(recipe):
        name = _tokenizer_beside(str(size.get("path", "")), is_needed=size.get("pretrained") is True)
        if name is not None and (size.get("pretrained") is True or "vocab_size" not in data.model_fields_set):
            recipe = recipe.model_copy(update={"data": data.model_copy(update={"tokenizer": name})})
    if recipe.task.name != "lm" or recipe.data.tokenizer is None or recipe.data.shape is not None:
        return recipe
    found, read = given_tokenizer(recipe.data)
    assert found is not None  # noqa: S101 - a tokenizer is named
    return recipe.with_shape(DataShape(inputs="tokens", vocab_size=found.vocab_size, context=read.context))


def _has_texts(recipe: Recipe) -> bool:
    return recipe.task.name in ("lm", "seq2seq") or recipe.data.field is not None


def _tokenizer_beside(path: str, *, is_needed: bool) -> str | None:
    """Return the folder of a model's files where it holds a tokenizer; a name of the hub as it is."""
    here = Path(path)
    folder = here.parent if here.is_file() else here
    if not folder.is_dir():
        if is_path(path):
            raise RecipeError(
                f"hf: '{path}' is no folder here.", hint="a folder with config.json, or a name of the hub"
            )
        return path or None
    if holds_tokenizer(folder):
        return str(folder)
    if is_needed:
        raise RecipeError(
            f"hf: {path} holds no tokenizer, and pretrained weights know tokens by the numbers that theirs gave them.",
            hint="--set data.tokenizer=FOLDER   with the tokenizer that it was trained with",
        )
    return None
