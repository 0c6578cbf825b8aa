"""Say what went wrong inside somebody's module: which layer, what it expected, what it got, on which line."""

from __future__ import annotations

import inspect
import itertools
import linecache
import logging
import math
import re
import sysconfig
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from kleiber.errors import KleiberError, RecipeError
from kleiber.models.foreign.expectations import broken_expectation, shape_text

__all__ = ["explained", "first_line", "is_data_dependent", "line_of"]

_DATA_DEPENDENT = {
    "DataDependentOutputException",
    "DynamicOutputShapeException",
    "GuardOnDataDependentSymNode",
}
_NEEDS_VALUES = ("cannot be called on meta tensors", "correct data-independent implementation does not exist")
_RESHAPE = re.compile(r"shape '\[([-\d, ]+)\]' is invalid for input of size (\d+)")
_LIBRARIES = (
    *(Path(sysconfig.get_path(key)) for key in ("purelib", "platlib", "stdlib")),
    Path(__file__).parents[2],
)
_ESCAPE = re.compile(r"\x1b\[\d*m")
_NUM_NAMED = 6


class _Example(Protocol):
    @property
    def args(self) -> tuple[Any, ...]: ...

    @property
    def kwargs(self) -> Mapping[str, Any]: ...


@contextmanager
def explained(module: nn.Module, example: _Example) -> Iterator[None]:
    """Turn what fails while `module` runs on `example` into one sentence.

    Torch's own layers are asked beforehand whether they can take what they get. Nothing but shapes is kept.

    Args:
        module: What runs inside, once or often, on real, meta or fake tensors.
        example: The arguments, with `args` and `kwargs`.

    Raises:
        RecipeError: The module takes other arguments; a layer cannot take its input; forward depends on the values
            of tensors; anything else that the module's code or its loss raised.
    """
    _check_arguments(module, example)
    trail = _Trail(module, example)
    # Torch prints the whole traceback of each failed fake operation beside raising it.
    fake_log = logging.getLogger("torch._subclasses.fake_tensor")
    was_disabled, fake_log.disabled = fake_log.disabled, True
    hooks = (register_module_forward_pre_hook(trail.enter), register_module_forward_hook(trail.leave))
    try:
        yield
    except (KleiberError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - whatever somebody's code raises
        raise trail.explain(error) from None
    finally:
        fake_log.disabled = was_disabled
        for hook in hooks:
            hook.remove()


class _Trail:
    """Which modules ran, and where one stopped."""

    def __init__(self, module: nn.Module, example: _Example) -> None:
        self._root = module
        self._paths = {id(part): path for path, part in module.named_modules()}
        self._batch_size, self._is_flat = _batch_of(example)
        self._finished: dict[str, None] = {}

    def enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if module is self._root:
            self._finished = {}
        if args and isinstance(args[0], Tensor) and (clause := broken_expectation(module, args[0])):
            raise RecipeError(
                f"{self._named(module)} {clause}.",
                hint="an --input of another size or dtype, or another size of that layer",
            )

    def leave(self, module: nn.Module, _: Any, output: Any) -> None:
        path = self._paths.get(id(module))
        if path:
            self._finished[path] = None
        if module is self._root:
            self._check_batch(output)

    def explain(self, error: Exception) -> RecipeError:
        """Return one sentence about a failure."""
        inside = self._inside(error)
        innermost = next(filter(None, (self._owner(frame) for frame, _ in reversed(inside))), None)
        where = _line(inside)
        if is_data_dependent(error):
            return self._data_dependent(innermost, where)
        if match := _RESHAPE.search(str(error)):
            return self._reshaped(innermost, where, *match.groups())
        return RecipeError(
            f"{self._doing(innermost)} failed{where} with {type(error).__name__}: {first_line(error)}"
        )

    def _doing(self, innermost: nn.Module | None) -> str:
        return (
            "What follows forward (the loss, its backward pass)"
            if innermost is None
            else self._named(innermost)
        )

    def _named(self, module: nn.Module) -> str:
        path = self._paths.get(id(module))
        return f"{path} ({type(module).__name__})" if path else type(module).__name__

    def _inside(self, error: Exception) -> list[tuple[FrameType, int]]:
        """Return the frames from the first call of a module of ours on, with the lines where they stand."""
        frames = traceback.walk_tb(error.__traceback__)
        return list(itertools.dropwhile(lambda step: self._owner(step[0]) is None, frames))

    def _owner(self, frame: FrameType) -> nn.Module | None:
        owner = frame.f_locals.get("self")
        return owner if isinstance(owner, nn.Module) and id(owner) in self._paths else None

    def _leaves(self) -> list[str]:
        """Return the paths of the modules without parts, in the order in which they were made."""
        return [path for path, part in self._root.named_modules() if path and not any(part.children())]

    def _data_dependent(self, innermost: nn.Module | None, where: str) -> RecipeError:
        leaves = self._leaves()
        counted = [path for path in leaves if path in self._finished]
        rest = [path for path in leaves if path not in self._finished]
        return RecipeError(
            f"{self._doing(innermost)} depends on the values in its tensors{where}, and a plan knows their shapes alone."
            f" Counted until there: {_listed(counted)}. Not counted: {_listed(rest)}.",
            hint="a forward without if, int(), .item() or nonzero() of a tensor, such as with torch.where",
        )

    def _reshaped(self, innermost: nn.Module | None, where: str, wanted: str, size: str) -> RecipeError:
        """Explain a view that does not fit; the sizes are those of the layer that comes next."""
        expected = math.prod(abs(int(part)) for part in wanted.split(",")[1:])
        got, rest = divmod(int(size), self._batch_size or 1)
        if rest or not self._batch_size or innermost is None:
            return RecipeError(f"A tensor of {int(size):,} values cannot be reshaped to [{wanted}]{where}.")
        ahead = (part for part in innermost.modules() if self._paths.get(id(part)) not in self._finished)
        layer = next((part for part in ahead if _takes(part, expected)), innermost)
        return RecipeError(
            f"{self._named(layer)} expects {expected:,} features and gets {got:,} a sample{where}.",
            hint="an --input of another size, or another size of that layer",
        )

    def _check_batch(self, output: Any) -> None:
        """Refuse rows that are no whole number a sample: a reshape made one sample out of parts of others."""
        size = None if self._is_flat else self._batch_size
        if size and isinstance(output, Tensor) and output.ndim == 2 and len(output) % size:
            raise RecipeError(
                f"A batch of {size} samples came out of {self._named(self._root)} as {len(output)} rows:"
                " a reshape in forward mixes samples.",
                got=shape_text(output),
                hint="flatten(1) instead of view(-1, ...) keeps them apart and shows which layer does not fit",
            )


def _check_arguments(module: nn.Module, example: _Example) -> None:
    forward = inspect.signature(module.forward)
    try:
        forward.bind(*example.args, **example.kwargs)
    except TypeError as error:
        taken = ", ".join(map(str, forward.parameters.values())) or "nothing"
        raise RecipeError(
            f"{type(module).__name__}.forward takes ({taken}): {error}.",
            got=f"{len(example.args)} inputs",
            hint="one --input for each argument, in their order",
        ) from None


def _batch_of(example: _Example) -> tuple[int | None, bool]:
    """Return the samples, where all inputs begin with the same size; and whether the first is but rows of features."""
    tensors = [
        value
        for value in (*example.args, *example.kwargs.values())
        if isinstance(value, Tensor) and value.ndim
    ]
    sizes = {len(value) for value in tensors}
    return (sizes.pop(), tensors[0].ndim <= 2) if len(sizes) == 1 else (None, True)


def _takes(module: nn.Module, num_features: int) -> bool:
    return isinstance(module, nn.Linear) and module.in_features == num_features


def is_data_dependent(error: BaseException) -> bool:
    """Return whether an error says that a module asked for the values in tensors that have none."""
    return type(error).__name__ in _DATA_DEPENDENT or any(text in str(error) for text in _NEEDS_VALUES)


def line_of(error: BaseException) -> str:
    """Return ` at FILE, line N (`code`)` of the innermost line that is the user's own; "" where there is none."""
    return _line(list(traceback.walk_tb(error.__traceback__)))


def _line(frames: list[tuple[FrameType, int]]) -> str:
    """Return the innermost line that is the user's own: outside of libraries and of Kleiber."""
    for frame, number in reversed(frames):
        path = Path(frame.f_code.co_filename)
        if not any(path.is_relative_to(library) for library in _LIBRARIES):
            line = linecache.getline(str(path), number).strip()
            return f" at {path.name}, line {number}" + (f" (`{line}`)" if line else "")
    return ""


def first_line(error: BaseException) -> str:
    r"""Return what an error says, as one sentence.

    Example:
        >>> first_line(ValueError("no data\nand more"))
        'no data.'
    """
    text = error.msg if isinstance(error, SyntaxError) else _ESCAPE.sub("", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["no message"]
    # Keras says first where it was, and then what was wrong.
    line = lines[1] if lines[0].startswith("Exception encountered") and len(lines) > 1 else lines[0]
    return line if line.endswith(".") else f"{line}."


def _listed(paths: list[str]) -> str:
    if not paths:
        return "nothing"
    more = len(paths) - _NUM_NAMED
    return ", ".join(paths[:_NUM_NAMED]) + (f" and {more} more" if more > 0 else "")
