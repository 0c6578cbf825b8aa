"""What was typed, written again with the change that an error proposes."""

from __future__ import annotations

import operator
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from kleiber.errors import UsageError

__all__ = ["pasteable_hints"]

_OPTION = re.compile(r"--[a-z][a-z-]*")


@contextmanager
def pasteable_hints(ctx: typer.Context) -> Iterator[None]:
    """Make a whole command of each hint that is options alone, the model and options, or another size.

    All else that was typed stays but for the option that the sentence begins with, for that was refused.

    Args:
        ctx: What was typed.

    Raises:
        UsageError: What was raised inside, with such a hint.
    """
    try:
        yield
    except UsageError as error:
        from kleiber.models import FAMILIES

        start = " ".join(["kleiber", str(ctx.info_name), str(ctx.params["model"]), ""])
        hint, *note = (error.hint or "").removeprefix(start).split("   ", 1)
        words = _options_in(hint)
        is_size = " " not in hint and hint.partition(":")[0] in FAMILIES
        if not (words or is_size):
            raise
        left_out = {error.message.split(" ", 1)[0].rstrip(":"), *words}
        model = hint if is_size else str(ctx.params["model"])
        line = shlex.join(["kleiber", str(ctx.info_name), model, *_typed(ctx, left_out), *words])
        raise type(error)(error.message, got=error.got, hint="   ".join([line, *note])) from None


def _options_in(hint: str) -> list[str]:
    """Return the words of a hint that is options and their values alone; none of another."""
    try:
        words = shlex.split(hint)
    except ValueError:  # a lone quotation mark
        return []
    options = [bool(_OPTION.fullmatch(word)) for word in words]
    is_value = [False, *options[:-1]]
    return words if all(map(operator.or_, options, is_value)) else []


def _typed(ctx: typer.Context, left_out: set[str]) -> list[str]:
    words = []
    for param in ctx.command.params:
        value: Any = ctx.params.get(str(param.name))
        if value is None or value == param.default or left_out.intersection(param.opts):
            continue
        if param.param_type_name == "argument":
            continue
        if value is True:
            words.append(param.opts[0])
        else:
            for each in value if isinstance(value, list | tuple) else [value]:
                words += [param.opts[0], str(each)]
    return words
