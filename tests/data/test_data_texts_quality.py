from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest

from kleiber.data.texts.quality import FAULTS, fault_of

WORDS = [f"{first}{second}{third}" for first in "bdfgkl" for second in "aeiou" for third in "mnrst"]


@pytest.mark.parametrize(
    "text",
    [
        "Yes.",
        "A gorgeous, witty film.",
        "白日依山尽，黄河入海流。\n欲穷千里目，更上一层楼。",
        "x = [1, 2, 3]\nfor y in x:\n    print(y)\n",
        "Привет, мир!",
        " ".join(WORDS),
        "\n".join([" ".join(WORDS)] * 2),
        "One...\nTwo...\nThree.",
    ],
)
def test_prose_and_code_pass(text: str) -> None:
    assert fault_of(text) is None


@pytest.mark.parametrize("name", ["argparse.py", "calendar.py", "token.py", "keyword.py", "LICENSE.txt"])
def test_modules_of_the_standard_library_pass(name: str) -> None:
    path = Path(sysconfig.get_path("stdlib")) / name
    assert not path.exists() or fault_of(path.read_text(encoding="utf-8")) is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "has hardly any words"),
        ("12 | 34 | 56 | 78\n---+----+----+---", "has hardly any words"),
        ("caf\ufffd and t\ufffdte", "has broken characters"),
        ("a\x00b\x01c def", "has broken characters"),
        ("Read on...\nAnd on…\nFine.\nMore...\nEnd.", "trails off in dots"),
        ("Home\nAbout us\nHome\nAbout us\nHome\nAbout us", "repeats its lines"),
        ("buy cheap watches " * 20, "repeats its words"),
    ],
)
def test_faults_are_named(text: str, fault: str) -> None:
    assert fault in FAULTS
    assert fault_of(text) == fault


def test_bounds_are_those_that_are_said() -> None:
    # 40 letters of 100 pass, 39 do not; 3 of 10 lines in dots pass, 4 do not.
    assert fault_of("a" * 40 + "-" * 60) is None
    assert fault_of("a" * 39 + "-" * 61) == "has hardly any words"
    lines = [f"line {word}" for word in WORDS[:10]]
    assert fault_of("\n".join([f"{line}..." for line in lines[:3]] + lines[3:])) is None
    assert fault_of("\n".join([f"{line}..." for line in lines[:4]] + lines[4:])) == "trails off in dots"
