"""docs/compress.md: its commands run on a small model and print what stands there; its tables are the code's."""

from __future__ import annotations

import inspect
import re
import shlex
import shutil
from typing import Any, get_args

import pytest
from compressing import RECIPE, QuickMeasuring
from training_page import ROOT, quoted
from typed_blocks import skeleton, steps_of

from kleiber.cli.main import COMMANDS
from kleiber.compress import order, parse_step, speed
from kleiber.compress.gate import Gate
from kleiber.compress.speed import Measuring
from kleiber.compress.steps import STEPS
from kleiber.runs import Recipe, RecoverRecipe
from kleiber.runs.receipt import Receipt
from kleiber.train import train

PAGE = (ROOT / "docs" / "compress.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
(SCRIPT,) = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


def rows(title: str) -> list[list[str]]:
    """Return the rows of the table below a bold title."""
    below = PAGE.split(f"**{title}")[1]
    lines = re.search(r"^\| .*?(?=\n\n|\Z)", below, flags=re.MULTILINE | re.DOTALL)[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.fixture
def book(cli, tmp_path, small_text, monkeypatch):
    """Put the page's text where its recipe expects it."""
    monkeypatch.setattr(speed, "Measuring", QuickMeasuring)
    shutil.copy(small_text / "ast.py", tmp_path / "book.txt")


def squeezed(line: str) -> str:
    return " ".join(skeleton(line).split())


def test_the_commands_run_and_print_what_the_page_says(cli, book, tmp_path):
    assert len(BLOCKS) >= 6
    for block in BLOCKS:
        for step in steps_of(block):
            if step.line.startswith("cat "):
                (tmp_path / step.line.split()[1]).write_text("\n".join(step.below))
                continue
            ran = cli(*shlex.split(step.line)[1:])
            assert ran.code == 0, (step.line, ran.stderr)
            printed = {squeezed(one) for one in ran.stdout.splitlines()}
            for below in step.below:
                assert squeezed(below) in printed, (below, ran.stdout)


def test_the_python_of_the_page_runs(book, capsys, tmp_path):
    train(Recipe().with_values([*RECIPE, "data.source=text:book.txt"]), tmp_path / "runs" / "book")
    exec(compile(SCRIPT, "docs/compress.md", "exec"), {})  # noqa: S102 - what a reader would paste
    ratio, low, high = map(float, capsys.readouterr().out.split())
    assert ratio < 0.5
    assert low <= high


def test_steps_and_their_settings():
    assert [quoted(row[0])[0] for row in rows("Steps")] == list(STEPS)
    for row in rows("Steps"):
        step = STEPS[quoted(row[0])[0]]
        assert quoted(row[2]) == [name for name in step.model_fields if name != "name"], row[0]


def words_of(annotation: Any) -> list[str]:
    """Return the words of a setting's type, through what may be left out."""
    values = [one for one in get_args(annotation) if one is not type(None)]
    return values if all(isinstance(one, str) for one in values) else words_of(values[0])


def test_words_of_settings():
    for row in rows("Words"):
        step, setting = quoted(row[0])[0].split(".")
        field = STEPS[step].model_fields[setting]
        assert quoted(row[1]) == words_of(field.annotation), row[0]
        if field.default is not None:
            assert quoted(row[1])[0] == field.default


def test_orders():
    table = {(quoted(row[1])[0], quoted(row[0])[0]): row[2] for row in rows("Orders")}
    assert table == order._ALWAYS | order._OF_THE_SAME_LAYERS


def test_bounds_are_written_as_the_page_says():
    fields = [quoted(row[0])[0].removeprefix("--").replace("-", "_") for row in rows("Bounds")]
    assert fields == list(Gate.model_fields)
    for field, row in zip(fields, rows("Bounds"), strict=True):
        for written in quoted(row[1]):
            assert Gate.typed(**{field: float(written) if field == "min_speedup" else written}).bounds == (
                field,
            )


def test_every_field_of_a_receipt():
    named = [key for row in rows("Receipt") for key in quoted(row[0])]
    assert sorted(named) == sorted({*Receipt.model_fields, *Receipt.model_computed_fields})


def test_engines():
    assert [quoted(row[0])[0] for row in rows("Engines")] == list(Measuring().engines)
    for row in rows("Engines"):
        assert "".join(quoted(row[2])) == speed._PACKAGES[quoted(row[0])[0]][0]


def test_every_key_of_a_recovery():
    assert sorted(key for row in rows("Recovering") for key in quoted(row[0])) == sorted(
        RecoverRecipe.model_fields
    )


def test_steps_and_options_in_the_text_exist():
    typed = [one for one in re.findall(r"`(\w+:\w+=[^`]+)`", PAGE) if one.split(":")[0] in STEPS]
    assert len(typed) >= 3
    for one in typed:
        assert parse_step(one).name == one.split(":")[0]
    known = inspect.signature(COMMANDS["compress"][1]).parameters
    for option in set(re.findall(r"`--([a-z-]+)", PAGE)):
        assert option.replace("-", "_") in known
