"""An option that names a file or folder is given a name."""

from __future__ import annotations

import pytest
import typer

from kleiber.cli.main import app

COMMANDS = typer.main.get_command(app).commands


@pytest.mark.parametrize(
    "command",
    [
        name
        for name, one in COMMANDS.items()
        if any("-o" in param.opts for param in getattr(one, "params", ()))
    ],
)
def test_no_command_writes_into_the_folder_it_is_typed_in_by_an_empty_name(cli, tmp_path, command):
    for words in (["-o", ""], ["--output", ""], ["--output="]):
        ran = cli(command, "x", *words)
        name = words[0].partition("=")[0]
        assert ran.code == 2
        assert f"error: {name} takes the name of a " in ran.stderr
        assert "and it is empty.\n  try: kleiber " in ran.stderr
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("ladder", "run", "ladder.yaml", "-o", ""), "-o takes the name of a folder, and it is empty."),
        (("bench", "x", "--markdown", ""), "--markdown takes the name of a file, and it is empty."),
        (("bench", "--compare", "a.json", ""), "--compare takes the name of a file, and it is empty."),
        (("generate", "x", "--prompt-file", ""), "--prompt-file takes the name of a file, and it is empty."),
    ],
)
def test_other_options_that_name_files(cli, arguments, text):
    ran = cli(*arguments)
    assert (ran.code, ran.stdout) == (2, "")
    assert ran.stderr.startswith(f"error: {text}\n  try: kleiber {arguments[0]}")


def test_texts_may_be_empty(cli):
    assert "the name of a" not in cli("generate", "x", "--prompt", "", "--stop", "").stderr
    assert "the name of a" not in cli("bench", "").stderr
