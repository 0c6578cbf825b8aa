"""Which modules in files the user has named: no other code is run, whatever a model's folder says."""

from __future__ import annotations

import hashlib
from pathlib import Path

from kleiber.errors import RecipeError, RunFolderError
from kleiber.runs import ModelRecipe

__all__ = ["file_hash", "is_module", "name_asked", "name_module", "named_path", "split_module"]

_EXAMPLE = "my_model.py:Net"
_named: dict[tuple[str, str], str] = {}
"""The path as typed, by the name of the file and that of the class."""


def is_module(text: str) -> bool:
    """Return whether a text names a module in a file.

    Example:
        >>> is_module("my_model.py:Net"), is_module("runs/net")
        (True, False)
    """
    file, colon, name = text.rpartition(":")
    return bool(colon and name) and file.endswith(".py")


def split_module(text: str) -> tuple[str, str]:
    """Return the file and the class of `my_model.py:Net`.

    Raises:
        RecipeError: It is not written so.
    """
    if not is_module(text):
        raise RecipeError("a module is written FILE.py:NAME.", got=text, hint=_EXAMPLE)
    file, _, name = text.rpartition(":")
    return file, name


def name_module(path: str, name: str) -> None:
    """Note that the user has named a module: from now on, model folders of a module of this file name and class load with it.

    Args:
        path: Of the Python file.
        name: Of the class or function.
    """
    _named[Path(path).name, name] = path


def name_asked(model: ModelRecipe) -> None:
    """Note the module that a recipe names which the user gave; a recipe that a folder holds is not given to this.

    Args:
        model: Of any family.
    """
    path, name = model.size.get("path"), model.size.get("name")
    if model.family == "file" and isinstance(path, str) and isinstance(name, str):
        name_module(path, name)


def named_path(path: str, name: str, folder: Path) -> str:
    """Return the file that the user named for the module of a folder.

    Args:
        path: As the folder says; it need no longer be there.
        name: Of the class or function.
        folder: Of the model.

    Raises:
        RunFolderError: The user has named no such module.
    """
    named = _named.get((Path(path).name, name))
    if named is None:
        raise RunFolderError(
            f"{folder} is a model of {Path(path).name}:{name}, and code that only a folder names is not run.",
            hint=f"--module {path}:{name}   names it, where the file is yours or you have read it",
        )
    return named


def file_hash(path: str) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of a file.

    Raises:
        RecipeError: It cannot be read.
    """
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}.", hint=_EXAMPLE) from None
