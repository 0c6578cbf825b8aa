"""A spec of other sizes."""

from __future__ import annotations

from typing import Any, TypeVar

from kleiber.errors import RecipeError
from kleiber.runs import Document

__all__ = ["resized"]

S = TypeVar("S", bound=Document)


def resized(spec: S, **sizes: Any) -> S:
    """Return a spec of other sizes, checked.

    Raises:
        RecipeError: They do not fit together.
    """
    return type(spec).of({**spec.model_dump(), **sizes}, "shrink", RecipeError)
