"""Options that several commands share, and how their text becomes numbers.

Numbers arrive as text so that a wrong one is refused in our own words, with a line that would work.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from kleiber.errors import UsageError
from kleiber.units import parse_count

__all__ = [
    "Design",
    "DesignSets",
    "Json",
    "ModuleCode",
    "OtherRecipe",
    "Preset",
    "Seed",
    "Sets",
    "assignments",
    "parse_choice",
    "parse_positive",
    "parse_real",
    "parse_whole",
]

Json = Annotated[bool, typer.Option("--json", help="Make the last line of stdout one JSON document.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe; may be given again."),
]
Design = Annotated[
    Path, typer.Argument(metavar="LADDER", help="A design in YAML; see kleiber schema ladder.")
]
DesignSets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the design; may be given again."),
]
OtherRecipe = Annotated[
    Path | None,
    typer.Option(
        "--recipe", metavar="FILE", help="Task and data, where the source is no run or others are meant."
    ),
]
ModuleCode = Annotated[
    str | None,
    typer.Option(
        "--module", metavar="FILE:CLASS", help="The code of a source that was made from my_model.py:Net."
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        "--preset", metavar="NAME", help="What a gpt's recipe leaves open: fast, or plain as GPT-2 was."
    ),
]
Seed = Annotated[str, typer.Option("--seed", metavar="WHOLE", help="Of everything random.")]

MAX_SEED = 2**31 - 1


def assignments(preset: str | None, sets: Sequence[str] | None) -> list[str]:
    """Return what `--preset` and `--set` ask for; the keys of `--set` stand over the preset's.

    Example:
        >>> assignments("fast", ["model.softcap=15"])
        ['preset=fast', 'model.softcap=15']
    """
    return [*([] if preset is None else [f"preset={preset}"]), *(sets or ())]


def parse_positive(text: str, name: str, command: str, *, example: str = "2e9") -> float:
    """Return the positive number that was typed as `2e9`, `2.6B` or `512`.

    Args:
        text: What was typed.
        name: The option, with its dashes.
        command: A command that works with this option added.
        example: A value that would do.

    Raises:
        UsageError: Not a positive number.

    Example:
        >>> parse_positive("-2e9", "--tokens", "kleiber plan gpt:depth=12")
        Traceback (most recent call last):
        kleiber.errors.UsageError: --tokens must be a positive number. Got '-2e9'.
          try: kleiber plan gpt:depth=12 --tokens 2e9
    """
    try:
        return parse_count(text, name)
    except UsageError as error:
        raise UsageError(error.message, got=error.got, hint=f"{command} {name} {example}") from None


def parse_whole(
    text: str,
    name: str,
    command: str,
    *,
    minimum: int = 0,
    maximum: int = MAX_SEED,
    example: int | None = None,
) -> int:
    """Return the whole number that was typed as `512`, `4K` or `1e3`.

    Args:
        text: What was typed.
        name: The option, with its dashes.
        command: A command that works with this option added.
        minimum: The smallest that is taken.
        maximum: The largest.
        example: A value that would do; None takes the smallest above 0.

    Raises:
        UsageError: Not a whole number, or outside `minimum` to `maximum`.

    Example:
        >>> parse_whole("4K", "--context", "kleiber plan gpt:depth=12")
        4000
    """
    value = _number(text)
    if not (value.is_integer() and minimum <= value <= maximum):
        raise UsageError(
            f"{name} must be a whole number from {minimum} to {maximum}.",
            got=text,
            hint=f"{command} {name} {example or max(minimum, 1)}",
        )
    return int(value)


def parse_real(text: str, name: str, command: str, *, maximum: float) -> float:
    """Return the number from 0 to `maximum` that was typed.

    Raises:
        UsageError: Not a number, or outside 0 to `maximum`.

    Example:
        >>> parse_real("0.8", "--temperature", "kleiber generate runs/demo/target", maximum=10)
        0.8
    """
    value = _number(text)
    if not 0 <= value <= maximum:
        raise UsageError(f"{name} must be from 0 to {maximum:g}.", got=text, hint=f"{command} {name} 1")
    return value


def parse_choice(text: str, name: str, command: str, known: Sequence[str]) -> str:
    """Return one of the known words.

    Raises:
        UsageError: It is none of them.

    Example:
        >>> parse_choice("adam", "--optimizer", "kleiber plan gpt:depth=12", ("sgd", "adam"))
        'adam'
    """
    if text not in known:
        raise UsageError(
            f"{name} must be one of {', '.join(known)}.", got=text, hint=f"{command} {name} {known[0]}"
        )
    return text


def _number(text: str) -> float:
    """Return a number from 0 up; NaN for anything else."""
    with contextlib.suppress(ValueError):
        if float(text) == 0:
            return 0.0
    try:
        return parse_count(text, "")
    except UsageError:
        return math.nan
