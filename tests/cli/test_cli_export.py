"""`kleiber export` on a small decoder."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "infer"))

from exporting import gpt_folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gpt_folder(tmp_path_factory.mktemp("model") / "small")


def test_an_export_says_what_it_proved(cli, model: Path, tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    ran = cli("export", model, "--format", "gguf", "--precision", "int8", "-o", tmp_path / "out", "--json")
    assert ran.code == 0, ran.stderr
    assert ran.document["folder"] == str(tmp_path / "out")
    assert ran.document["precision"] == "Q8_0"
    assert ran.document["agreement"]["is_met"] is True
    assert ran.document["agreement"]["greedy"]["num_tokens"] == 52
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "model.gguf", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "receipt.json",
    }  # fmt: skip
    for words in ("model.gguf", "largest difference", "fewer bits changed by themselves", "same greedy text"):
        assert words in ran.stderr


def test_what_does_not_agree_fails_and_leaves_nothing(cli, model: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    ran = cli(
        "export", model, "--format", "hf", "--precision", "f16", "--tolerance", "0", "-o", tmp_path / "out"
    )
    assert ran.code == 1
    assert "does not agree with the original" in ran.stderr
    assert "try: --tolerance" in ran.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--format", "gguv", "-o", "out"), "'gguv' is not one of"),
        (("--format", "hf"), "Missing option '--output'"),
        (
            ("--format", "hf", "--precision", "int8", "-o", "out"),
            "the format hf is written in fp32, f16. Got 'int8'",
        ),
        (("--format", "hf", "--tolerance", "2", "-o", "out"), "--tolerance must be from 0 to 1. Got '2'"),
        (("--format", "hf", "-o", "."), "holds something already"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_read(
    cli, arguments: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    ran = cli("export", tmp_path / "no-run", *arguments)
    assert ran.code == 2
    assert message in ran.stderr


def test_a_folder_without_a_model(cli, tmp_path: Path) -> None:
    ran = cli("export", tmp_path / "nothing", "--format", "onnx", "-o", tmp_path / "out")
    assert ran.code == 2
    assert "is neither a run nor a folder with a config.json" in ran.stderr
