from __future__ import annotations

import json
from pathlib import Path

import pytest

from kleiber.cli.main import main
from kleiber.models import build, save
from kleiber.models.gpt.spec import GPTSpec
from kleiber.runs import Recipe


def test_a_recipe_that_goes_on_from_a_model_is_planned_with_that_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = GPTSpec.from_dial({"depth": 1, "width": 16}, vocab_size=300, context=32)
    save(build(spec), spec, tmp_path / "donor")
    recipe = Recipe.model_validate(
        {
            "data": {"vocab_size": 300, "context": 32},
            "recover": {"model": str(tmp_path / "donor")},
            "train": {"compile": "never"},
        }
    )
    recipe.write(tmp_path / "recipe.json")
    raw = json.loads((tmp_path / "recipe.json").read_text())
    del raw["model"]
    (tmp_path / "recipe.json").write_text(json.dumps(raw))
    assert main(["plan", str(tmp_path / "recipe.json"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["num_params"]["total"] == spec.count().total
