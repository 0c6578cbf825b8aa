"""Model families: a size gives a spec, the spec counts itself and builds a module. Nothing here imports torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from kleiber.errors import RecipeError, nearest
from kleiber.models.gpt.spec import GPTSpec
from kleiber.runs import ModelRecipe, Recipe
from kleiber.runs.recipe import parse_scalar

if TYPE_CHECKING:
    from kleiber.models.gpt.module import GPT

__all__ = ["FAMILIES", "Spec", "build", "load", "parse_size", "resolve_spec", "save"]

Spec: TypeAlias = GPTSpec
"""The union of the families' specs."""

FAMILIES: dict[str, type[Spec]] = {"gpt": GPTSpec}


def parse_size(text: str) -> ModelRecipe:
    """Return the model that the command line's shorthand names: `FAMILY:KEY=VALUE,...`.

    Raises:
        RecipeError: An unknown family, or a part that is not KEY=VALUE. The family checks the keys.

    Example:
        >>> parse_size("gpt:depth=12,width=768").size
        {'depth': 12, 'width': 768}
    """
    family, _, rest = text.partition(":")
    _family(family)
    size: dict[str, object] = {}
    for part in rest.split(",") if rest else ():
        key, separator, value = (piece.strip() for piece in part.partition("="))
        if not (key and separator and value) or key in size or key == "family":
            raise RecipeError(
                f"A size is written FAMILY:KEY=VALUE,KEY=VALUE with each key once; '{part}' is not KEY=VALUE.",
                got=text,
                hint="gpt:depth=12,width=768",
            )
        size[key] = parse_scalar(value)
    return ModelRecipe.model_validate({"family": family, **size})


def resolve_spec(recipe: Recipe) -> Spec:
    """Return the spec of a recipe's model, with the vocabulary and context of its data.

    Raises:
        RecipeError: An unknown family, an unknown key, an absurd number.
    """
    return _family(recipe.model.family).from_dial(
        recipe.model.size, vocab_size=recipe.data.vocab_size, context=recipe.data.context
    )


def _family(name: str) -> type[Spec]:
    if name not in FAMILIES:
        raise RecipeError(
            f"unknown family '{name}'. {nearest(name, FAMILIES)}", hint="gpt:depth=12,width=768"
        )
    return FAMILIES[name]


def build(spec: Spec, *, seed: int = 0) -> GPT:
    """Return a module with freshly initialized weights [fp32, CPU]; the same seed gives the same weights."""
    from kleiber.models.gpt.module import GPT  # noqa: PLC0415 - torch takes a second to import

    return GPT(spec).init_weights_(seed)


def save(module: GPT, spec: Spec, folder: Path) -> None:
    """Write `config.json` and `model.safetensors` in the Hugging Face layout.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    from kleiber.models.gpt import convert  # noqa: PLC0415 - torch takes a second to import

    convert.save(module, spec, folder)


def load(folder: Path) -> tuple[GPT, Spec]:
    """Return the module [fp32, CPU] and spec in a folder of the Hugging Face layout.

    Raises:
        RunFolderError: A file is missing or truncated, or the architecture is not one of ours.
    """
    from kleiber.models.gpt import convert  # noqa: PLC0415 - torch takes a second to import

    return convert.load(folder)
