"""Documents name commands and options that exist."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import typer

from kleiber.cli.main import COMMANDS, app

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "CONTRIBUTING.md")


def lines_of(page: str) -> list[str]:
    """Return the commands of a page's code blocks, without what a shell does with them."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line.removeprefix("$ ").split(" #")[0] for block in blocks for line in block.splitlines()]
    return [line.split(">")[0].split("|")[0].strip() for line in lines if line.startswith("kleiber ")]


def parse(line: str) -> None:
    """Parse a command line as the command itself would, without running it."""
    words, command, context = shlex.split(line)[1:], typer.main.get_command(app), None
    context = command.make_context("kleiber", words, resilient_parsing=True)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    command.make_context(str(command.name), words, parent=context)


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_documents_parse(page):
    for line in lines_of(page):
        parse(line)


def test_there_are_commands_to_check():
    named = {line.split()[1] for line in lines_of("README.md")}
    assert named >= {"plan", "ladder", "fit", "forecast", "train", "verify", "generate", "report"}


@pytest.mark.parametrize(
    "line", ["kleiber plan gpt:depth=2 --tokns 3", "kleiber forecast", "kleiber ladder go x"]
)
def test_a_wrong_command_would_be_seen(line):
    with pytest.raises((typer.TyperException, KeyError)):
        parse(line)


def test_targets_of_make_in_documents_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        named = set(re.findall(r"(?:^|`)make ([a-z]+)", text, flags=re.MULTILINE))
        assert named <= targets, page


def test_links_between_documents_lead_somewhere():
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text(encoding="utf-8")):
            assert (ROOT / link).exists(), f"{page} links to {link}"


@pytest.fixture(scope="module")
def make_reference():
    spec = importlib.util.spec_from_file_location("make_reference", ROOT / "docs" / "make_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_what_make_docs_writes(make_reference):
    assert make_reference.OUTPUT.read_text(encoding="utf-8") == make_reference.reference(), "run make docs"


def test_a_bar_in_a_cell_does_not_end_it(make_reference):
    table = [line for line in make_reference.reference().splitlines() if line.startswith("| `")]
    assert r"| `--lang` en\|zh | Language of the report. Default: `en`. |" in table
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {3}


def test_the_reference_has_every_command(make_reference):
    headings = re.findall(r"^### kleiber (.*)$", make_reference.reference(), flags=re.MULTILINE)
    assert {heading.split()[0] for heading in headings} == set(COMMANDS)
    assert "ladder status" in headings
