"""What a command prints: lines for people, then one JSON document for programs."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

__all__ = ["Output", "finite"]


@dataclass(frozen=True)
class Output:
    """Where a command prints.

    With `is_json` stdout carries one JSON line and nothing else, and what people read goes to stderr;
    progress bars always go to stderr.
    """

    is_json: bool

    @cached_property
    def console(self) -> Console:
        """The console that people read."""
        from rich.console import Console

        return Console(stderr=self.is_json, highlight=False)

    def say(self, text: str = "") -> None:
        """Print a line as it is, without reading markup or emoji in it and without breaking it."""
        self.console.print(text, markup=False, emoji=False, soft_wrap=True)

    def write(self, piece: str) -> None:
        """Print a piece of a model's text at once; what would steer a terminal is left out."""
        stream = self.console.file
        stream.write("".join(char for char in piece if char.isprintable() or char in "\n\t"))
        stream.flush()

    def notice(self, sentence: str) -> None:
        """Print what a person should know although the work goes on."""
        sys.stderr.write(f"note: {sentence}\n")

    def table(
        self, headers: Sequence[str], rows: Iterable[Sequence[str]], *, words: Sequence[int] = (0,)
    ) -> None:
        """Print a table; the columns in `words` are flush left, the others hold figures and are flush right."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for index, header in enumerate(headers):
            table.add_column(header, justify="left" if index in words else "right", overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        self.console.print(table)

    def document(self, value: dict[str, Any] | list[Any]) -> None:
        """Print `value` as the last line of stdout when a program asked for it."""
        if self.is_json:
            sys.stdout.write(json.dumps(finite(value), ensure_ascii=False, allow_nan=False) + "\n")
            sys.stdout.flush()

    def progress(self) -> Progress:
        """Return a progress bar on stderr, silent where stderr is not a terminal."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        return Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )


def finite(value: Any) -> Any:
    """Return a JSON value with null in place of what JSON cannot say.

    Example:
        >>> finite({"loss": float("nan"), "interval_80": (1.0, float("inf"))})
        {'loss': None, 'interval_80': [1.0, None]}
    """
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
