"""The C++ compiler of this machine."""

from __future__ import annotations

import os
import shutil

from kleiber.errors import RecipeError

__all__ = ["compiler", "has_compiler"]

_NAMES = ("g++", "clang++", "c++")


def has_compiler() -> bool:
    """Return whether this machine has a C++ compiler, which torch compiles with."""
    return _found() is not None


def compiler() -> str:
    """Return the path of the C++ compiler; `CXX` names another.

    Raises:
        RecipeError: There is none.
    """
    found = _found()
    if found is None:
        raise RecipeError(
            "The engine compiled needs a C++ compiler.", got="no g++ or clang++", hint="apt install g++"
        )
    return found


def _found() -> str | None:
    paths = (shutil.which(name) for name in (os.environ.get("CXX", ""), *_NAMES) if name)
    return next((path for path in paths if path), None)
