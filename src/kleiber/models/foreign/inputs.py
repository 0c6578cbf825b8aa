"""What goes into somebody's module: `8x3x32x32`, `8x128:int64`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kleiber.errors import RecipeError, nearest
from kleiber.models.subject import Inputs

if TYPE_CHECKING:
    import torch

__all__ = ["DTYPES", "InputShape", "make_inputs", "numbers", "parse_inputs", "whole_numbers"]

DTYPES = (
    "float32",
    "float64",
    "float16",
    "bfloat16",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint8",
    "bool",
)
"""What may stand behind the colon."""

_HINT = "--input 8x3x32x32   (batch first), or --input 8x128:int64 for token ids"
_SIZE = re.compile(r"[1-9][0-9]{0,11}")
_MAX_VALUES = 10**13
_SEED = 0


@dataclass(frozen=True)
class InputShape:
    """One tensor that a module takes; its first dimension is the batch."""

    size: tuple[int, ...]
    dtype: str = "float32"

    def __str__(self) -> str:
        """Return it as it is typed."""
        text = "x".join(map(str, self.size))
        return text if self.dtype == "float32" else f"{text}:{self.dtype}"


def parse_inputs(texts: Sequence[str]) -> tuple[InputShape, ...]:
    """Return the shapes that `--input` names, in the order in which the module takes them.

    Raises:
        RecipeError: Not sizes joined by `x`, or an unknown dtype.

    Example:
        >>> [shape.size for shape in parse_inputs(["8x3x32x32", "8x128:int64"])]
        [(8, 3, 32, 32), (8, 128)]
        >>> str(parse_inputs(["8x128:int64"])[0])
        '8x128:int64'
    """
    return tuple(_parse(text.strip()) for text in texts)


def _parse(text: str) -> InputShape:
    sizes, colon, dtype = text.partition(":")
    parts = sizes.split("x")
    if not all(_SIZE.fullmatch(part) for part in parts):
        raise RecipeError(
            "--input must be whole numbers from 1 up, joined by 'x', the batch first.", got=text, hint=_HINT
        )
    if colon and dtype not in DTYPES:
        raise RecipeError(f"--input: unknown dtype '{dtype}'. {nearest(dtype, DTYPES)}", got=text, hint=_HINT)
    size = tuple(map(int, parts))
    num_values = 1
    for part in size:
        num_values *= part
    if num_values > _MAX_VALUES:
        raise RecipeError(f"--input must hold at most {_MAX_VALUES:.0e} values.", got=text, hint=_HINT)
    return InputShape(size, dtype or "float32")


def make_inputs(shapes: Sequence[InputShape], batch_size: int) -> Inputs:
    """Return positional arguments of these shapes for a batch of another size, on the current default device.

    Whole numbers are 0 or 1: in range for every table with two rows.

    Raises:
        RecipeError: The shapes do not share their first dimension, so it is not clear what the batch is.
    """
    batches = {shape.size[0] for shape in shapes}
    if len(batches) > 1 and batch_size != shapes[0].size[0]:
        raise RecipeError(
            f"A batch of {batch_size} needs every --input to begin with the same batch size.",
            got=[str(shape) for shape in shapes],
            hint="type each --input with that batch size first",
        )
    if len(batches) > 1:
        return Inputs(args=tuple(_tensor(shape, shape.size) for shape in shapes))
    return Inputs(args=tuple(_tensor(shape, (batch_size, *shape.size[1:])) for shape in shapes))


def _tensor(shape: InputShape, size: tuple[int, ...]) -> torch.Tensor:
    import torch  # noqa: PLC0415 - torch takes a second to import

    dtype: torch.dtype = getattr(torch, shape.dtype)
    return numbers(size, dtype) if dtype.is_floating_point else whole_numbers(size, 2, dtype)


def numbers(size: Sequence[int], dtype: torch.dtype | None = None) -> torch.Tensor:
    """Return normal numbers, the same ones each time, on the current default device."""
    import torch  # noqa: PLC0415 - torch takes a second to import

    return torch.randn(tuple(size), generator=_generator(), dtype=dtype)


def whole_numbers(size: Sequence[int], end: int, dtype: torch.dtype | None = None) -> torch.Tensor:
    """Return whole numbers from 0 to `end` - 1, the same ones each time, on the current default device."""
    import torch  # noqa: PLC0415 - torch takes a second to import

    return torch.randint(end, tuple(size), generator=_generator(), dtype=dtype or torch.int64)


def _generator() -> torch.Generator:
    import torch  # noqa: PLC0415 - torch takes a second to import

    device = torch.get_default_device()
    # Meta has no generator of its own and takes the CPU's.
    return torch.Generator("cpu" if device.type == "meta" else device).manual_seed(_SEED)
