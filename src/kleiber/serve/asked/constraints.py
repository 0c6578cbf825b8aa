"""`response_format`: the form that a text must have."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from kleiber.errors import UsageError
from kleiber.infer.generation.constraint import Constraint
from kleiber.runs import Document
from kleiber.serve.errors import RefusedError

__all__ = ["NamedSchema", "Shape", "constraint_of"]


class NamedSchema(Document):
    """A JSON schema as OpenAI's API takes it."""

    model_config = ConfigDict(strict=True, populate_by_name=True)

    name: str = Field(min_length=1, max_length=64)
    """Not used."""
    description: str | None = None
    """Not used."""
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    """Without it any object will do."""
    strict: bool | None = None
    """Every schema is followed strictly, asked or not."""


class Shape(Document):
    """What a text must be."""

    model_config = ConfigDict(strict=True)

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None
    """Of the type `json_schema`."""


def constraint_of(
    shape: Shape | None, guided_json: dict[str, Any] | None, guided_regex: str | None
) -> Constraint | None:
    """Return the form that a request asks for; None where any text will do.

    Raises:
        RefusedError: It asks for several, for a schema without giving it, or for what cannot be followed.
    """
    asked = {
        "response_format": None if shape is None or shape.type == "text" else shape,
        "guided_json": guided_json,
        "guided_regex": guided_regex,
    }
    given = [name for name, value in asked.items() if value is not None]
    if len(given) > 1:
        raise RefusedError(f"a text has one form; {' and '.join(given)} ask for several.", param=given[1])
    if not given:
        return None
    try:
        if guided_json is not None:
            return Constraint.json_schema(guided_json)
        if guided_regex is not None:
            return Constraint.regex(guided_regex)
        return _of_shape(asked["response_format"])
    except UsageError as error:
        raise RefusedError(error.message, param=given[0], got=error.got, hint=error.hint) from None


def _of_shape(shape: Any) -> Constraint:
    if shape.type == "json_object":
        return Constraint.json_object()
    if shape.json_schema is None:
        raise UsageError(
            "response_format of the type json_schema has no json_schema.",
            hint='"json_schema": {"name": "answer", "schema": {"type": "object"}}',
        )
    schema = shape.json_schema.schema_
    return Constraint.json_object() if schema is None else Constraint.json_schema(schema)
