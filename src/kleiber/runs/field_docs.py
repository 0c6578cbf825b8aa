"""What the source says of a document's fields: read when a schema is asked for, since reading it takes longer than most commands."""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from typing import Any

from pydantic import BaseModel

__all__ = ["field_docs"]


def field_docs(document: type[BaseModel]) -> dict[str, str]:
    """Return the docstring under each field of a class and of those that it extends, by name.

    Args:
        document: Its source must be at hand; of a class made in a prompt nothing is known.
    """
    docs: dict[str, str] = {}
    for part in reversed(document.__mro__):
        if issubclass(part, BaseModel) and part is not BaseModel:
            docs |= _own_docs(part)
    return {name: text for name, text in docs.items() if name in document.model_fields}


def _own_docs(part: type[Any]) -> dict[str, str]:
    try:
        source = textwrap.dedent(inspect.getsource(part))
    except (OSError, TypeError):
        return {}
    (node,) = ast.parse(source).body
    if not isinstance(node, ast.ClassDef):
        return {}
    return {
        field.target.id: inspect.cleandoc(below.value.value)
        for field, below in itertools.pairwise(node.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
        if isinstance(below.value.value, str)
    }
