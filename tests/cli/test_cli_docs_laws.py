"""docs/laws.md: its table of forms is the code's, and its commands are commands."""

import re
import shlex
from pathlib import Path

from kleiber.cli.main import COMMANDS
from kleiber.scaling import FORMS

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "laws.md").read_text(encoding="utf-8")
REFERENCE = (DOCS / "commands.md").read_text(encoding="utf-8")


def section_of(title: str) -> str:
    return PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]


def test_the_table_of_forms_names_them_all_with_their_inputs():
    rows = re.findall(r"^\| `(\w+)` \| ([A-Z, ]+) \|", section_of("Forms"), re.MULTILINE)
    assert {name: tuple(of.split(", ")) for name, of in rows} == {
        name: form.inputs for name, form in FORMS.items()
    }


def test_the_first_table_names_commands():
    named = re.findall(r"^\| `(\w+)` \|", PAGE.partition("## Rows")[0], re.MULTILINE)
    assert len(named) == 6
    assert set(named) <= set(COMMANDS)


def test_lines_are_commands_with_options_that_there_are():
    lines = re.findall(r"^kleiber (.*)$", PAGE, re.MULTILINE)
    assert len(lines) > 12
    for line in lines:
        name, *words = shlex.split(line.partition("  #")[0])
        assert name in COMMANDS
        section = REFERENCE.partition(f"### kleiber {name}\n")[2].partition("\n### ")[0]
        for option in (word for word in words if re.match(r"--?[a-z]", word)):
            assert re.search(rf"{re.escape(option)}\b", section), f"{name} has no {option}"


def test_options_named_in_sentences_are_there():
    named = {word for text in re.findall(r"`([^`\n]+)`", PAGE) for word in re.findall(r"--[a-z-]+", text)}
    assert len(named) > 8
    assert [option for option in sorted(named) if f"{option}" not in REFERENCE] == []
