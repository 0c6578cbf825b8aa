"""How commands begin and end: help, exit codes, one sentence for each error."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
import typer

from kleiber import __version__
from kleiber.cli import main as main_module
from kleiber.cli.main import COMMANDS, app
from kleiber.errors import CheckpointError, Interrupted, RecipeError, StorageError

PATHS = [[name] for name in COMMANDS if name != "ladder"] + [
    ["ladder", name] for name in ("check", "design", "plan", "run", "status", "tune")
]


def fail_with(monkeypatch, error):
    """Make `kleiber demo` raise."""

    def raising():
        raise error

    broken = typer.Typer()
    broken.command("demo")(raising)
    broken.callback()(lambda: None)
    monkeypatch.setattr(main_module, "app", broken)


def test_help_orders_the_commands_by_the_four_parts(cli):
    ran = cli("--help")
    assert ran.code == 0
    panels = ["Start here", "Parameter scale", "Training methods", "Inference efficiency", "Trust"]
    places = [ran.stdout.index(f"─ {panel} ─") for panel in panels]
    assert places == sorted(places)
    names = re.findall(r"^│ ([a-z]+) ", ran.stdout, flags=re.MULTILINE)
    assert names == list(COMMANDS)


def test_kleiber_alone_shows_the_help(cli):
    assert cli() == cli("--help")


def test_version(cli):
    assert cli("--version").stdout == f"kleiber {__version__}\n"


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_every_command_has_help_with_an_example_and_json(cli, path):
    ran = cli(*path, "--help")
    assert ran.code == 0
    assert f"Example: kleiber {' '.join(path)}" in ran.stdout
    assert "--json" in ran.stdout
    assert "With --json:" in ran.stdout


@pytest.mark.parametrize("path", [path for path in PATHS if path != ["schema"]], ids=" ".join)
def test_every_example_parses(path):
    command = typer.main.get_command(app)
    context = command.make_context("kleiber", list(path), resilient_parsing=True)
    for name in path:
        command = command.commands[name]
    words = re.findall(r'"[^"]*"|\S+', command.epilog.removeprefix("Example: "))
    assert words[: len(path) + 1] == ["kleiber", *path]
    assert command.make_context(path[-1], words[len(path) + 1 :], parent=context)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["plan"], "error: Missing argument 'MODEL'.\n  try: kleiber plan gpt:depth=12 --tokens 2.6e9"),
        (["plan", "gpt:depth=2", "--tokns", "3"], "error: No such option: --tokns"),
        (["pln"], "error: No such command 'pln'. Did you mean 'plan'?\n  try: kleiber demo\n"),
        (
            ["ladder"],
            "error: Missing command.\n  try: kleiber ladder run examples/ladder.yaml -o runs/study\n",
        ),
        (
            ["ladder", "start"],
            "error: No such command 'start'. Did you mean 'status'?\n  try: kleiber ladder run examples/ladder.yaml",
        ),
        (
            ["report", "x", "--lang", "fr"],
            "error: Invalid value for '--lang': 'fr' is not one of 'en', 'zh'.\n",
        ),
        (["plan", "gpt:depth=2", "--tokens"], "error: Option '--tokens' requires an argument.\n"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_2(cli, arguments, text):
    ran = cli(*arguments)
    assert ran.code == 2
    assert ran.stdout == ""
    assert ran.stderr.startswith(text)


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (RecipeError("a is wrong.", got=3, hint="a: 4"), 2, "error: a is wrong. Got 3.\n  try: a: 4\n"),
        (CheckpointError("none can be read."), 1, "error: none can be read.\n"),
        (StorageError("the disk is full."), 1, "error: the disk is full.\n"),
        (Interrupted("stopped at step 3.", hint="the same"), 130, "stopped at step 3.\n  try: the same\n"),
        (KeyboardInterrupt(), 130, "stopped.\n"),
        (
            ZeroDivisionError("division by zero"),
            1,
            (
                "error: ZeroDivisionError: division by zero. This is a fault in Kleiber.\n  try: the same command with "
                "--debug, and report what it prints\n"
            ),
        ),
    ],
)
def test_exit_codes_and_what_is_said(cli, monkeypatch, error, code, text):
    fail_with(monkeypatch, error)
    ran = cli("demo")
    assert (ran.code, ran.stderr, ran.stdout) == (code, text, "")


@pytest.mark.parametrize("arguments", [["--debug", "demo"], ["demo", "--debug"]])
def test_debug_adds_the_traceback(cli, monkeypatch, arguments):
    fail_with(monkeypatch, RecipeError("a is wrong."))
    ran = cli(*arguments)
    assert ran.code == 2
    assert ran.stderr.startswith("Traceback (most recent call last):")
    assert ran.stderr.endswith("error: a is wrong.\n")


def kleiber(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kleiber", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_a_shell_gets_exit_code_and_streams():
    ran = kleiber("plan", "gpt:depth=12", "--tokens", "-2e9")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == (
        "error: --tokens must be a positive number. Got '-2e9'.\n  try: kleiber plan gpt:depth=12 --tokens 2e9\n"
    )


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="needs the child's own CPU time")
@pytest.mark.parametrize(
    ("arguments", "limit_s"), [(["--help"], 0.5), (["plan", "gpt:depth=12"], 1.5)], ids=["help", "plan"]
)
def test_quick_commands_answer_at_once(arguments, limit_s):
    # CPU time, not the clock: tests share their cores.
    process = subprocess.Popen([sys.executable, "-m", "kleiber", *arguments], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    assert used.ru_utime + used.ru_stime < limit_s
