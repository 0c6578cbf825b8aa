from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from kleiber.cli.main import main
from kleiber.models.file import named

CODE = """
from torch import nn


class Net(nn.Sequential):
    def __init__(self, width):
        super().__init__(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a module, its weights, and a recipe of its data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(named, "_named", {})
    (tmp_path / "net.py").write_text(CODE)
    torch.manual_seed(0)
    save_file(
        nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10)).state_dict(),
        "net.safetensors",
    )
    (tmp_path / "recipe.yaml").write_text("task: {name: classification}\ndata: {source: digits}\n")
    return tmp_path


ARGUMENTS = [
    "net.py:Net",
    "quantize:bits=8",
    "--weights",
    "net.safetensors",
    "--init",
    '{"width": 24}',
    "--engine",
    "torch",
]


def test_a_module_in_a_file_is_compressed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compress", *ARGUMENTS, "--recipe", "recipe.yaml", "--json"]) == 0
    receipt = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert receipt["folder"] == "runs/net-Net-small"
    assert receipt["stored_ratio"] < 0.6
    assert receipt["quality"][0]["name"] == "accuracy"
    assert (place / "runs" / "net-Net-small" / "model" / "model.safetensors").is_file()
    assert not list((place / "runs").rglob("*.py"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["net.py:Net", "quantize:bits=8"], "net.py:Net is a module without weights, task and data"),
        (
            [*ARGUMENTS[:-4], "--init", "[3]", "--recipe", "recipe.yaml"],
            "--init takes a mapping in JSON. Got '[3]'",
        ),
        (
            ["runs/none", "quantize:bits=8", "--weights", "net.safetensors"],
            "--weights is for a module in a file",
        ),
        (
            ["net.py", "quantize:bits=8", "--weights", "net.safetensors"],
            "--weights is for a module in a file, which is written my_model.py:Net. Got 'net.py'.",
        ),
    ],
)
def test_what_a_module_needs_is_told(
    place: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["compress", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (place / "runs").exists()


@pytest.mark.parametrize("name", ["record.json", "thesis/chapter.txt", "notes.txt"])
def test_what_stands_where_the_original_goes_is_not_lost(
    place: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    path = place / "runs" / "net-Net" / name
    path.parent.mkdir(parents=True)
    path.write_text("years of work")
    assert main(["compress", *ARGUMENTS, "--recipe", "recipe.yaml"]) == 2
    message = "runs/net-Net is where the module would be written as a model, and it holds something else."
    assert message in capsys.readouterr().err
    assert path.read_text() == "years of work"
