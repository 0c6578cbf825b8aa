from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from kleiber.errors import RunFolderError
from kleiber.models import build, load, save
from kleiber.models.resnet import ResNetSpec
from kleiber.models.resnet.module import ResNet
from kleiber.runs import DataShape

SHAPE = DataShape(inputs="images", channels=3, height=64, width=72, num_outputs=5)
IMAGES = torch.randn(3, 3, 64, 72, generator=torch.Generator().manual_seed(1))
SIZES = [
    {"depth": 18, "width": 8},
    {"stage_depths": [1, 2], "width": 4, "block": "bottleneck", "dropout": 0.3, "init": "zero_residual"},
]


def saved(folder: Path, size: dict[str, object]) -> ResNet:
    module = build(ResNetSpec.of_size(size, SHAPE))
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        module(IMAGES)  # moves the running statistics
    save(module.eval(), module.spec, folder)
    return module


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_transformers_gives_the_same_outputs(tmp_path: Path, size: dict[str, object]) -> None:
    transformers = pytest.importorskip("transformers")
    module = saved(tmp_path, size)
    theirs, info = transformers.AutoModelForImageClassification.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert type(theirs).__name__ == "ResNetForImageClassification"
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert torch.allclose(theirs.eval()(IMAGES).logits, module(IMAGES), atol=1e-5)
    assert sum(p.numel() for p in theirs.parameters()) == module.spec.count().total


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_what_transformers_saves_loads(tmp_path: Path, size: dict[str, object]) -> None:
    transformers = pytest.importorskip("transformers")
    module = saved(tmp_path / "ours", size)
    theirs = transformers.AutoModelForImageClassification.from_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    back, spec = load(tmp_path / "theirs")
    assert spec == module.spec
    assert torch.equal(back.eval()(IMAGES), module(IMAGES))


@torch.no_grad()
def test_a_model_that_transformers_made_loads(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[32, 64], depths=[1, 2], num_labels=7, num_channels=1
    )
    theirs = transformers.ResNetForImageClassification(config).eval()
    theirs.save_pretrained(tmp_path)
    module, spec = load(tmp_path)
    assert (spec.depth, spec.width, spec.block) == (11, 8, "bottleneck")
    assert spec.shape == DataShape(inputs="images", channels=1, height=224, width=224, num_outputs=7)
    images = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(module.eval()(images), theirs(images).logits, atol=1e-5)


@pytest.mark.parametrize(
    "change", [{"stem": "cifar"}, {"shortcut": "padding"}, {"norm": "group"}, {"activation": "gelu"}]
)
def test_what_transformers_has_not_is_saved_in_our_layout(tmp_path: Path, change: dict[str, object]) -> None:
    saved(tmp_path, SIZES[1] | change)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["KleiberResNet"]
    assert load(tmp_path)[1] == ResNetSpec.of(config["spec"], "spec", RunFolderError)


def test_half_precision_weights_become_fp32(tmp_path: Path) -> None:
    module = saved(tmp_path, SIZES[0])
    path = tmp_path / "model.safetensors"
    halved = {n: t.bfloat16() if t.is_floating_point() else t for n, t in load_file(path).items()}
    save_file(halved, path)
    back = load(tmp_path)[0]
    assert back.head.weight.dtype == torch.float32
    assert torch.equal(back.head.weight, module.head.weight.bfloat16().float())


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"architectures": ["ResNetForImageClassification", "X"]}, "the architecture must be ResNetForImage"),
        ({"downsample_in_bottleneck": True}, "downsample_in_bottleneck must be False. Got True"),
        ({"downsample_in_first_stage": True}, "downsample_in_first_stage must be False"),
        ({"hidden_act": "gelu"}, "hidden_act must be relu. Got 'gelu'"),
        (
            {"hidden_sizes": [8, 16, 32, 65]},
            r"hidden_sizes must be \[8, 16, 32, 64\]\. Got \[8, 16, 32, 65\]",
        ),
        ({"layer_type": "wide"}, "block: input should be 'basic' or 'bottleneck'"),
        ({"depths": None}, "stage_depths: "),
        ({"num_channels": 1}, r"embedder.convolution.weight must be \(8, 1, 7, 7\)\. Got \(8, 3, 7, 7\)"),
    ],
)
def test_another_config_is_refused(tmp_path: Path, keys: dict[str, object], message: str) -> None:
    saved(tmp_path, SIZES[0])
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | keys))
    with pytest.raises(RunFolderError, match=message):
        load(tmp_path)


@pytest.mark.parametrize("key", ["embedding_size", "depths", "hidden_sizes", "layer_type", "num_channels"])
def test_a_config_without_a_size_is_refused(tmp_path: Path, key: str) -> None:
    saved(tmp_path, SIZES[0])
    config = json.loads((tmp_path / "config.json").read_text())
    del config[key]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunFolderError, match=f"the key '{key}' is missing"):
        load(tmp_path)


@torch.no_grad()
def test_blocks_of_other_widths_are_stored_in_our_own_layout(tmp_path: Path) -> None:
    module = saved(tmp_path, {"depth": 18, "width": 8, "inner_widths": [3, 4, 5, 6, 7, 8, 9, 10]})
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["KleiberResNet"]
    back, spec = load(tmp_path)
    assert spec == module.spec
    assert torch.equal(back.eval()(IMAGES), module(IMAGES))
