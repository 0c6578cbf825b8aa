"""Options that name a file or a folder, and were given no name: `-o ""` would be the folder that one stands in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

from kleiber.errors import UsageError

__all__ = ["require_named_paths"]


def require_named_paths(command: Any, arguments: Sequence[str]) -> None:
    """Refuse an empty name of a file or folder.

    Args:
        command: Of typer, with all that stand below it.
        arguments: As they were typed.

    Raises:
        UsageError: An option that takes a file or folder was given nothing.
    """
    typed = list(arguments)
    while typed and (below := getattr(command, "commands", {}).get(typed[0])) is not None:
        command, typed = below, typed[1:]
    example = (command.epilog or "").removeprefix("Example: ")
    takes = dict(_of_paths(command))
    for index, word in enumerate(typed):
        name, equals, value = word.partition("=")
        if name not in takes:
            continue
        num, is_folder = takes[name]
        if "" in ([value] if equals else typed[index + 1 : index + 1 + num]):
            what = "folder" if is_folder else "file"
            raise UsageError(f"{name} takes the name of a {what}, and it is empty.", hint=example)


def _of_paths(command: Any) -> Iterator[tuple[str, tuple[int, bool]]]:
    """Yield each option that takes files or folders, with how many, and whether they are folders."""
    for param in command.params:
        annotation = param.type_descriptor.annotation
        if param.param_type_name == "option" and Path in (annotation, *get_args(annotation)):
            for name in param.opts:
                yield name, (param.nargs, param.metavar == "FOLDER")
