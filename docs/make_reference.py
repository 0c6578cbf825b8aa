"""Write docs/commands.md from the commands' own help, so that the two cannot differ."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from kleiber.cli.main import COMMANDS, app

OUTPUT = Path(__file__).with_name("commands.md")

_BAR = r"\|"

HEAD = """# Commands

Written by `make docs` from the commands' own help. Every command takes `--json`: the last line of stdout is then one JSON
document with the keys named below, and what people read goes to stderr. Exit codes: 0 done, 1 failed, 2 asked wrongly,
130 stopped by Ctrl-C. `kleiber --debug COMMAND` shows the traceback of an error.
"""


def reference() -> str:
    """Return the whole page."""
    root = typer.main.get_command(app)
    lines, panel = [HEAD], ""
    for name, (of_part, _, _) in COMMANDS.items():
        if of_part != panel:
            panel = of_part
            lines.append(f"## {panel}\n")
        lines += _sections(root.commands[name], ("kleiber", name))  # type: ignore[attr-defined]
    return "\n".join(lines)


def _sections(command: Any, path: tuple[str, ...]) -> Iterator[str]:
    for name, child in getattr(command, "commands", {}).items():
        yield from _sections(child, (*path, name))
    if hasattr(command, "commands"):
        return
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and one.help]
    yield f"### {' '.join(path)}\n"
    yield f"{_paragraphs(command.help)}\n"
    yield f"```\n{command.epilog.removeprefix('Example: ')}\n```\n"
    yield "| | |\n| --- | --- |"
    for one in arguments:
        yield _line(f"`{one.metavar or one.name.upper()}`", one.help)
    for one in options:
        yield _line(f"`{', '.join(one.opts)}`{_value(one)}", f"{one.help}{_default(one)}")
    yield ""


def _line(*cells: str) -> str:
    """Return a line of a table; a bar inside a cell would end it."""
    return f"| {' | '.join(cell.replace('|', _BAR) for cell in cells)} |"


def _paragraphs(text: str) -> str:
    """Return the help with each paragraph on one line."""
    return "\n\n".join(re.sub(r"\s+", " ", part).strip() for part in text.split("\n\n"))


def _value(option: Any) -> str:
    return "" if option.is_flag else f" {option.metavar or 'VALUE'}"


def _default(option: Any) -> str:
    if option.is_flag or option.default is None:
        return " Required." if option.required else ""
    return f" Default: `{option.default}`."


if __name__ == "__main__":
    OUTPUT.write_text(reference(), encoding="utf-8")
