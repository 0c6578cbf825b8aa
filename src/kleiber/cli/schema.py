"""`kleiber schema`: JSON schemas that let an editor complete and check a recipe."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from kleiber.cli.options import Json

if TYPE_CHECKING:
    from kleiber.runs import Document

__all__ = ["EXAMPLE", "recipe_schema", "schema"]

EXAMPLE = "kleiber schema recipe > recipe.schema.json"


def schema(
    document: Annotated[
        Literal["recipe", "ladder"], typer.Argument(metavar="recipe|ladder", help="Which document.")
    ] = "recipe",
    json_: Json = False,
) -> None:
    """Print the JSON schema of a recipe or a ladder, for editors.

    With --json: the schema itself, on one line.
    """
    value = recipe_schema() if document == "recipe" else ladder_schema()
    sys.stdout.write(json.dumps(value, indent=None if json_ else 2, ensure_ascii=False) + "\n")


def recipe_schema() -> dict[str, Any]:
    """Return the schema of a recipe, the keys of every family's size dial included."""
    from kleiber.runs import Recipe

    return _schema_of(Recipe, "Kleiber recipe")


def ladder_schema() -> dict[str, Any]:
    """Return the schema of a ladder's design, its models' dials included."""
    from kleiber.study.design import LadderDesign

    return _schema_of(LadderDesign, "Kleiber ladder")


def _schema_of(document: type[Document], title: str) -> dict[str, Any]:
    schema = document.model_json_schema()
    schema["$defs"]["ModelRecipe"] = _model_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": title}


def _model_schema() -> dict[str, Any]:
    """Return the schema of `model`: one alternative a family, without what the data decides."""
    from kleiber.models import BROUGHT, FAMILIES

    families = []
    for name, spec in FAMILIES.items():
        keys = dict(spec.model_json_schema()["properties"])
        for of_data in ("vocab_size", "context", "shape"):
            keys.pop(of_data, None)
        keys["family"] = {"const": name, "default": name}
        if name not in BROUGHT:  # which say their sizes themselves
            keys["params"] = {
                "anyOf": [{"type": "number"}, {"type": "string"}],
                "description": "Parameters to come close to, in place of depth and width.",
            }
        families.append({"type": "object", "properties": keys, "additionalProperties": False})
    return {"title": "ModelRecipe", "anyOf": families}
