"""Imports run one way through the house, and the quick commands stay light."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "kleiber"

# From the top of the house to the ground: a room imports only rooms below it.
ROOMS = (
    "__main__", "cli", "ui", "report", "serve", "study", "doctor", "fleet", "trust", "compress", "infer", "growth", "train",
    "tasks", "data", "scaling", "models", "cost", "runs", "units", "errors",
    "__init__",
)  # fmt: skip

HEAVY = ("torch", "scipy.optimize", "transformers", "datasets", "tensorboard")


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_rooms(tree: ast.AST, package: tuple[str, ...]) -> list[tuple[int, str]]:
    """Return line and room of each import of ours, those inside functions and for type checkers included."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*above, *filter(None, [node.module])))
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "kleiber" else [module]
        else:
            continue
        found += [(node.lineno, name.split(".")[1]) for name in names if name.startswith("kleiber.")]
    return [(line, room) for line, room in found if room in ROOMS]


def broken_arrows(path: Path, text: str) -> list[str]:
    package = ("kleiber", *path.relative_to(SOURCE).parts[:-1])
    own = room_of(path)
    return [
        f"{path.relative_to(SOURCE)}:{line} imports {room}, which stands above {own}"
        for line, room in imported_rooms(ast.parse(text), package)
        if ROOMS.index(room) < ROOMS.index(own)
    ]


MODULES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_down(path):
    assert room_of(path) in ROOMS, "a new room: give it a place in DESIGN.md and here"
    assert broken_arrows(path, path.read_text(encoding="utf-8")) == []


def test_there_is_something_to_check():
    assert {"cli", "runs"} <= {room_of(path) for path in MODULES}


@pytest.mark.parametrize(
    "line",
    [
        "import kleiber.cli.main",
        "from kleiber.cli import main",
        "from kleiber import cli",
        "from ..cli import main",
        "from .. import cli",
        "def f():\n    from kleiber.cli import main",
    ],
)
def test_an_arrow_that_points_up_is_found(line):
    assert broken_arrows(SOURCE / "runs" / "x.py", line)


@pytest.mark.parametrize(
    "line",
    [
        "from kleiber.errors import nearest",
        "from kleiber import __version__",
        "import numpy",
        "from .x import y",
    ],
)
def test_an_arrow_that_points_down_is_not(line):
    assert broken_arrows(SOURCE / "runs" / "x.py", line) == []
