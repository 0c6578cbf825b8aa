from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from kleiber.errors import RunFolderError
from kleiber.models import build, load, save
from kleiber.models.mlp import MLPSpec
from kleiber.models.mlp.convert import load as load_mlp
from kleiber.models.mlp.module import MLP
from kleiber.runs import DataShape

SHAPE = DataShape(inputs="features", num_features=7, num_outputs=2)


def saved(folder: Path) -> MLP:
    module = build(MLPSpec.of_size({"depth": 2, "width": 5, "norm": "batch"}, SHAPE))
    save(module, module.spec, folder)
    return module


def test_the_folder_says_what_it_holds(tmp_path: Path) -> None:
    module = saved(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["architectures"], config["model_type"]) == (["KleiberMLP"], "kleiber")
    assert MLPSpec.of(config["spec"], "spec", RunFolderError) == module.spec
    assert load_file(tmp_path / "model.safetensors").keys() == module.state_dict().keys()


def test_half_precision_weights_become_fp32_and_counters_stay_whole(tmp_path: Path) -> None:
    module = saved(tmp_path)
    path = tmp_path / "model.safetensors"
    halved = {n: t.half() if t.is_floating_point() else t for n, t in load_file(path).items()}
    save_file(halved, path)
    state = load(tmp_path)[0].state_dict()
    assert state["head.weight"].dtype == torch.float32
    assert torch.equal(state["head.weight"], module.head.weight.half().float())
    assert state["layers.0.norm.num_batches_tracked"].dtype == torch.int64


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["KleiberConvNet"]}))
    with pytest.raises(RunFolderError, match=r"architecture must be KleiberMLP\. Got \['KleiberConvNet'\]"):
        load_mlp(tmp_path)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (None, r"config\.json: spec must hold a mapping of keys to values"),
        ({"depth": 2}, r"config\.json: spec: the key 'shape' is missing"),
        ({"depth": 2, "width": 5, "norms": 1}, r"unknown key 'norms'\. Did you mean 'norm'"),
    ],
)
def test_a_spec_that_is_none_is_refused(tmp_path: Path, spec: object, message: str) -> None:
    saved(tmp_path)
    config = {"architectures": ["KleiberMLP"], "model_type": "kleiber", "spec": spec}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunFolderError, match=message):
        load(tmp_path)


def test_weights_of_another_spec_are_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["spec"]["width"] = 6
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunFolderError, match=r"head\.weight must be \(2, 6\)\. Got \(2, 5\)"):
        load(tmp_path)
