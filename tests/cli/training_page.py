"""docs/training.md taken apart: its blocks of commands and its tables."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


def tables() -> dict[str, list[list[str]]]:
    """Return the rows of each table, by what its bold title says."""
    found: dict[str, list[list[str]]] = {}
    title = ""
    for line in PAGE.splitlines():
        if match := re.match(r"\*\*([^*]+)\*\*", line):
            title = match[1]
        if line.startswith("| ") and not line.startswith("| ---"):
            found.setdefault(title, []).append([cell.strip() for cell in line.strip("|").split("|")])
    return {title: rows[1:] for title, rows in found.items()}


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def names(title: str) -> list[str]:
    return [quoted(row[0])[0] for row in tables()[title]]
