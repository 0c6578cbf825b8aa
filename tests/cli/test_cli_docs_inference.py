"""docs/inference.md: its tables are the code's, and its commands are commands."""

import re
import shlex
from pathlib import Path

import pytest

from kleiber.cli.main import COMMANDS
from kleiber.infer.engines import ENGINES
from kleiber.infer.export.run import FORMATS
from kleiber.infer.precision import PRECISIONS

PAGE = (Path(__file__).parents[2] / "docs" / "inference.md").read_text(encoding="utf-8")


def first_cells(title: str) -> list[str]:
    section = PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)


@pytest.mark.parametrize(
    ("title", "known"), [("Engines", ENGINES), ("Precisions", PRECISIONS), ("Exporting", FORMATS)]
)
def test_tables_name_what_there_is(title, known):
    assert first_cells(title) == list(known)


def test_lines_are_commands_with_options_that_there_are():
    lines = re.findall(r"^kleiber (.*)$", PAGE, re.MULTILINE) + re.findall(r"`kleiber (export [^`]*)`", PAGE)
    assert len(lines) > 8
    for line in lines:
        name, *words = shlex.split(line.partition("  #")[0].partition(" < ")[0])
        assert name in COMMANDS
        reference = Path(__file__).parents[2] / "docs" / "commands.md"
        section = (
            reference.read_text(encoding="utf-8").partition(f"### kleiber {name}\n")[2].partition("\n### ")[0]
        )
        for option in (word for word in words if re.match(r"--?[a-z]", word)):
            assert re.search(rf"{re.escape(option)}\b", section), f"{name} has no {option}"
