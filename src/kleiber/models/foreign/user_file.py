"""A module in the user's own file: `my_model.py:Net`.

The file is run, as asked, under a name of its own; its folder can be imported from while it loads and builds.
Nothing is unpickled, and what stands under `if __name__ == "__main__"` does not run.
"""

from __future__ import annotations

import inspect
import itertools
import json
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from kleiber.errors import KleiberError, RecipeError, nearest
from kleiber.models.foreign.failures import first_line
from kleiber.models.foreign.keras_model import check_backend, keras_on_torch, missing_keras

__all__ = ["UserModule", "open_user_module"]

_EXAMPLE_INIT = '{"num_classes": 10}'
_PREFIX = "kleiber_brought_"
_numbers = itertools.count()


@dataclass(frozen=True)
class UserModule:
    """A class or function of a user's file with the arguments it is called with."""

    path: Path
    name: str
    target: Callable[..., Any]
    init: dict[str, Any]

    def build(self) -> nn.Module:
        """Return a new module with random weights, on the current default device.

        Raises:
            RecipeError: The user's code failed, or did not return an `nn.Module`.
        """
        with _importable(self.path.parent), _user_errors(self.path, f"{self.name}(...)"):
            module = self.target(**self.init)
        if not isinstance(module, nn.Module):
            raise RecipeError(
                f"{self.path}:{self.name} must return a torch.nn.Module.",
                got=type(module).__name__,
                hint=f"let {self.name} return the module itself",
            )
        return module


def open_user_module(path: Path, name: str, init: str | None, *, option: str = "--init ") -> UserModule:
    """Run the file and return what it calls `name`, ready to build.

    Args:
        path: A file of Python source.
        name: A subclass of `nn.Module` in it, or a function that returns a module; empty lists what there is.
        init: Arguments, a JSON object.
        option: What they are typed after, for hints.

    Raises:
        RecipeError: The file is missing or fails, has no such class or function, or needs other arguments.
    """
    arguments = _parse_init(init)
    file_module = _run(path)
    target = _find(file_module, path, name)
    _check_arguments(target, f"{path}:{name}", arguments, option)
    return UserModule(path, name, target, arguments)


def _parse_init(init: str | None) -> dict[str, Any]:
    if init is None:
        return {}
    try:
        arguments = json.loads(init)
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        raise RecipeError(
            "--init must be a JSON object of arguments.", got=init, hint=f"--init '{_EXAMPLE_INIT}'"
        )
    return arguments


def _run(path: Path) -> ModuleType:
    try:
        source = path.read_bytes()
    except OSError as error:
        raise RecipeError(
            f"{path} cannot be read: {error.strerror}.", hint="kleiber plan my_model.py:Net --input 8x3x32x32"
        ) from None
    module = ModuleType(f"{_PREFIX}{next(_numbers)}_{path.stem}")
    module.__file__ = str(path)
    # Dataclasses look a class's module up by its name.
    sys.modules[module.__name__] = module
    with _importable(path.parent), _user_errors(path, "import"):
        exec(compile(source, str(path), "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - the user asked for it
    check_backend()
    return module


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let the user's code import its neighbours, and forget those afterwards: another folder may use their names."""
    before, home = set(sys.modules), folder.resolve()
    sys.path.insert(0, str(home))
    try:
        with keras_on_torch():
            yield
    finally:
        sys.path.remove(str(home))
        # A library may live below the folder as well, in its virtual environment.
        elsewhere = [path for path in map(Path, sys.path) if path != home and path.is_relative_to(home)]
        for name in set(sys.modules) - before:
            file = Path(getattr(sys.modules[name], "__file__", None) or "/").resolve()
            is_library = any(file.is_relative_to(path) for path in elsewhere)
            if file.is_relative_to(home) and not is_library and not name.startswith(_PREFIX):
                del sys.modules[name]


@contextmanager
def _user_errors(path: Path, doing: str) -> Iterator[None]:
    """Say in one sentence what failed in the user's file, and where."""
    try:
        yield
    except (KleiberError, MemoryError):
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the user's code raises
        if (missing := missing_keras(error)) is not None:
            raise missing from None
        raise RecipeError(
            f"{_where(path, error)}: {doing} failed with {type(error).__name__}: {first_line(error)}"
        ) from None


def _where(path: Path, error: BaseException) -> str:
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path}, line {error.lineno}"
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)
    ]
    return f"{path}, line {lines[-1]}" if lines else str(path)


def _find(file_module: ModuleType, path: Path, name: str) -> Callable[..., Any]:
    known = _modules(file_module)
    if not name:
        listed = f"It has: {', '.join(known)}." if known else "It defines no torch.nn.Module."
        raise RecipeError(
            f"{path} needs the name of a class behind a colon. {listed}",
            hint=f"kleiber plan {path}:{known[0] if known else 'Net'} --input 8x3x32x32",
        )
    if not hasattr(file_module, name):
        near = nearest(name, known) if known else "It defines no torch.nn.Module."
        raise RecipeError(f"{path} has no class or function '{name}'. {near}")
    target = getattr(file_module, name)
    if isinstance(target, nn.Module):
        raise RecipeError(
            f"{path}:{name} is a module already built; name the class or a function that builds it.",
            got=type(target).__name__,
            hint=f"def make_model(): ...   and then {path}:make_model",
        )
    if not callable(target) or (isinstance(target, type) and not issubclass(target, nn.Module)):
        near = f" {nearest(name, known)}" if known else ""
        raise RecipeError(
            f"{path}:{name} must be a subclass of torch.nn.Module, or a function that returns a module.{near}",
            got="another class" if isinstance(target, type) else type(target).__name__,
        )
    return target  # type: ignore[no-any-return]


def _modules(file_module: ModuleType) -> list[str]:
    """Return the modules that the file itself defines, in its order."""
    return [
        name
        for name, value in vars(file_module).items()
        if isinstance(value, type)
        and issubclass(value, nn.Module)
        and value.__module__ == file_module.__name__
    ]


def _check_arguments(target: Callable[..., Any], where: str, given: dict[str, Any], option: str) -> None:
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):  # a callable in C: Python itself will say what is wrong
        return
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    known = [p.name for p in named]
    unknown = [key for key in given if key not in known]
    if unknown and not any(p.kind is p.VAR_KEYWORD for p in parameters):
        clause = nearest(unknown[0], known) if known else "It takes none."
        raise RecipeError(
            f"{option.strip(' =')}: {where} has no argument '{unknown[0]}'. {clause}",
            hint=f"{option}'{_EXAMPLE_INIT}'",
        )
    missing = [p.name for p in named if p.default is p.empty and p.name not in given]
    if missing:
        example = json.dumps({name: given.get(name, 10) for name in [*given, *missing]})
        raise RecipeError(f"{where} needs arguments: {', '.join(missing)}.", hint=f"{option}'{example}'")
