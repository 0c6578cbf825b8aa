"""Blocks of commands in a page taken apart: what is typed, and what stands below it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

__all__ = ["Step", "skeleton", "steps_of"]


@dataclass
class Step:
    """A line that somebody types, and what stands below it."""

    line: str
    below: list[str] = field(default_factory=list)


def steps_of(block: str) -> list[Step]:
    """Return the lines of a block that begin with `$`; a loop is taken apart."""
    steps: list[Step] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            loop = re.fullmatch(r"for n in (.*?); do (.*); done", line[2:])
            values, typed = (loop[1].split(), loop[2]) if loop else ([""], line[2:])
            steps += [Step(typed.replace("$n", value)) for value in values]
        else:
            steps[-1].below.append(line)
    return steps


def skeleton(line: str) -> str:
    """Return a line without its numbers and times."""
    return re.sub(
        r"# (?:h|min|s|ms|µs)\b",
        "#",
        re.sub(r"-?\d[\d.,]*(?: [KMGT](?= ))?", "#", line).replace("# min #", "#"),
    )
