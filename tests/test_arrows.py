"""Imports run one way through the house, and the quick commands stay light."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from kleiber.runs import ParamCount

SOURCE = Path(__file__).parents[1] / "src" / "kleiber"

# From the top of the house to the ground: a room imports only rooms below it.
ROOMS = (
    "__main__", "cli", "ui", "report", "serve", "study", "doctor", "fleet", "trust", "compress", "infer", "growth", "train",
    "tasks", "data", "scaling", "models", "cost", "runs", "units", "errors",
    "__init__",
)  # fmt: skip

HEAVY = ("torch", "scipy", "transformers", "datasets", "tokenizers", "tensorboard")


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


REPORT = """
import json, sys
from kleiber.cli.main import main
code = main(sys.argv[1:])
sys.stderr.write(json.dumps([code, sorted(sys.modules)]))
"""


def loaded_by(*arguments: str, cwd: Path, script: str = REPORT) -> tuple[int, list[str]]:
    """Return the exit code of a command and the heavy packages that its process holds at the end."""
    ran = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    code, modules = json.loads(ran.stderr.splitlines()[-1])
    packages = {name.partition(".")[0] for name in modules}
    return code, sorted(packages & set(HEAVY))


@pytest.fixture(scope="module")
def study(tmp_path_factory, make_record) -> Path:
    """Return a folder with rows, a law and a forecast, and the run that the forecast is about."""
    folder = tmp_path_factory.mktemp("arrows")
    points = [(n, d) for n in (1e4, 1e5, 1e6) for d in (1e6, 3e6, 1e7)]
    lines = ["params,tokens,loss", *(f"{n},{d},{1.7 + 40 / n**0.3 + 90 / d**0.35}" for n, d in points)]
    (folder / "rows.csv").write_text("\n".join(lines))
    assert loaded_by("fit", "rows.csv", "--bootstrap", "100", "-o", "law.json", cwd=folder) == (0, [])
    point = ("--params", "1e7", "--tokens", "2e7")
    assert loaded_by("forecast", "law.json", *point, "-o", "forecast.json", cwd=folder) == (0, [])
    record = make_record(
        "run", num_params=ParamCount(embedding=0, body=10**7, head=0), result={"num_tokens": 2 * 10**7}
    )
    record.write(folder / "run" / "record.json")
    return folder


@pytest.mark.parametrize(
    "command",
    [
        "--help",
        "plan gpt:depth=12",
        "plan gpt:depth=12 --device h100-sxm --num-devices 8 --batch 64",
        "plan gpt:depth=12 --mode infer --modules 2",
        "plan gpt --budget-usd 100 --device a100-80gb",
        "schema recipe",
        "verify forecast.json run",
        "report run -o report.html",
    ],
)
def test_quick_commands_hold_nothing_heavy(study, command):
    # Laws and forecasts are in the fixture.
    assert loaded_by(*command.split(), cwd=study) == (0, [])


def test_specs_costs_and_laws_hold_nothing_heavy(tmp_path):
    modules = "kleiber.scaling, kleiber.cost, kleiber.models, kleiber.models.gpt.spec, kleiber.report, kleiber.study.plan"
    script = f"import json, sys, {modules}\nsys.stderr.write(json.dumps([0, sorted(sys.modules)]))"
    assert loaded_by(cwd=tmp_path, script=script) == (0, [])


def test_a_heavy_import_would_be_seen(tmp_path):
    script = "import json, sys, tokenizers\nsys.stderr.write(json.dumps([0, sorted(sys.modules)]))"
    assert loaded_by(cwd=tmp_path, script=script) == (0, ["tokenizers"])
