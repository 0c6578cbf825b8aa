from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it

from kleiber.errors import RecipeError, RunFolderError
from kleiber.models import build, load, save
from kleiber.models.vit import ViTSpec
from kleiber.models.vit.module import ViT
from kleiber.runs import DataShape

IMAGES = DataShape(inputs="images", channels=3, height=16, width=16, num_outputs=4)
SPECTROGRAMS = DataShape(inputs="images", channels=1, height=20, width=13, num_outputs=2)
CASES: list[tuple[DataShape, dict[str, Any]]] = [
    (IMAGES, {"patch_size": 4}),
    (IMAGES, {"patch_size": 8, "num_heads": 4, "activation": "relu", "norm_eps": 1e-3, "init": "xavier"}),
    (SPECTROGRAMS, {"patch_size": 5, "dropout": 0.1, "attention_dropout": 0.1}),
]


def random_model(shape: DataShape = IMAGES, **size: Any) -> ViT:
    """A model in which no weight is zero and no gain is 1."""
    module = build(ViTSpec.of_size({"depth": 2, "width": 32} | size, shape)).eval()
    assert isinstance(module, ViT)
    with torch.no_grad():
        for index, parameter in enumerate(module.parameters()):
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index)))
    return module


def images_of(shape: DataShape, num: int = 2) -> torch.Tensor:
    sizes = (num, shape.channels or 0, shape.height or 0, shape.width or 0)
    return torch.randn(sizes, generator=torch.Generator().manual_seed(1))


def test_count_of_vit_base_as_published() -> None:
    # ViT-B/16 at 224 pixels with 1000 classes: 86,567,656 parameters
    shape = DataShape(inputs="images", channels=3, height=224, width=224, num_outputs=1000)
    spec = ViTSpec.of_size({"depth": 12, "patch_size": 16}, shape)
    assert (spec.width, spec.num_heads, spec.mlp_width, spec.num_patches) == (768, 12, 3072, 196)
    assert spec.count().total == 86_567_656
    # 17.6 GMACs of one image (Touvron et al. 2021, arXiv:2012.12877, table 5, of the same network)
    assert spec.flops(1).forward / 2 == pytest.approx(17.56e9, rel=0.002)


def test_flops_worked_by_hand() -> None:
    # 16 patches of 48 numbers into 32 features; a block on 17 tokens; a head of 4 x 32
    flops = ViTSpec.of_size({"depth": 2, "width": 32, "patch_size": 4}, IMAGES).flops(5)
    patches = 2 * 5 * 16 * 48 * 32
    assert flops.forward == patches + 2 * 5 * (2 * 17 * 12_288 + 4 * 17**2 * 32) + 2 * 5 * 4 * 32
    assert flops.backward == 2 * flops.forward - patches


@pytest.mark.parametrize(("shape", "size"), CASES)
@torch.no_grad()
def test_transformers_gives_the_same_logits(tmp_path: Path, shape: DataShape, size: dict[str, Any]) -> None:
    transformers = pytest.importorskip("transformers")
    module = random_model(shape, **size)
    save(module, module.spec, tmp_path)
    theirs, info = transformers.AutoModelForImageClassification.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert type(theirs).__name__ == "ViTForImageClassification"
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    images = images_of(shape)
    filled_up = F.pad(
        images, (0, -images.shape[3] % size["patch_size"], 0, -images.shape[2] % size["patch_size"])
    )
    assert (theirs(filled_up).logits - module(images)).abs().max().item() < 2e-5
    assert sum(p.numel() for p in theirs.parameters()) == module.spec.count().total


@pytest.mark.parametrize(("shape", "size"), CASES)
@torch.no_grad()
def test_what_transformers_saves_loads(tmp_path: Path, shape: DataShape, size: dict[str, Any]) -> None:
    transformers = pytest.importorskip("transformers")
    module = random_model(shape, **size)
    save(module, module.spec, tmp_path / "ours")
    theirs = transformers.AutoModelForImageClassification.from_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    back, spec = load(tmp_path / "theirs")
    assert spec == module.spec
    assert torch.equal(back.eval()(images_of(shape)), module(images_of(shape)))


@pytest.mark.parametrize("image_size", [12, (8, 16)])
@torch.no_grad()
def test_a_config_of_transformers_own_loads(tmp_path: Path, image_size: Any) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=30,
        image_size=image_size,
        patch_size=4,
        num_labels=5,
    )
    theirs = transformers.ViTForImageClassification(config).eval()
    theirs.save_pretrained(tmp_path)
    module, spec = load(tmp_path)
    assert isinstance(spec, ViTSpec)
    images = images_of(spec.shape)
    assert images.shape[2:] == ((12, 12) if image_size == 12 else (8, 16))
    assert (theirs(images).logits - module.eval()(images)).abs().max().item() < 1e-5


@pytest.mark.parametrize(
    ("sides", "patch_size"),
    [((28, 28), 4), ((32, 32), 4), ((8, 8), 1), ((4, 4), 1), ((64, 64), 8), ((224, 224), 32), ((40, 101), 8)],
)
def test_the_usual_patch_leaves_7_to_14_a_side(sides: tuple[int, int], patch_size: int) -> None:
    shape = DataShape(inputs="images", channels=1, height=sides[0], width=sides[1], num_outputs=2)
    assert ViTSpec.of_size({"depth": 2}, shape).patch_size == patch_size


@torch.no_grad()
def test_every_pixel_and_every_place_counts() -> None:
    module = random_model(SPECTROGRAMS, patch_size=6)
    assert module.spec.grid == (4, 3)
    image = images_of(SPECTROGRAMS, 1)
    answer = module(image)
    for row, column in ((0, 0), (19, 12), (11, 5)):
        changed = image.clone()
        changed[0, 0, row, column] += 1
        assert (module(changed) - answer).abs().max() > 1e-5
    assert (module(image.flip(2)) - answer).abs().max() > 1e-3


def test_dropout_is_of_training_alone() -> None:
    images = images_of(IMAGES)
    for name in ("dropout", "attention_dropout"):
        module = random_model(**{name: 0.5}).train()
        torch.manual_seed(0)
        one, other = module(images), module(images)
        assert not torch.allclose(one, other)
        torch.manual_seed(0)
        assert torch.equal(module(images), one)
        module.eval()
        assert torch.equal(module(images), module(images))


@torch.no_grad()
def test_zero_residuals_start_blocks_as_the_identity() -> None:
    module = build(ViTSpec.of_size({"depth": 2, "width": 32, "init": "zero_residual"}, IMAGES))
    assert isinstance(module, ViT)
    stream = torch.randn(2, 5, 32)
    assert torch.equal(module.blocks[1](stream), stream)
    assert not torch.equal(random_model().blocks[1](stream), stream)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("qkv_bias", False, "config.json: qkv_bias must be True. Got False"),
        ("patch_size", [4, 4], "patch_size: input should be a valid integer"),
        ("architectures", ["ViTModel"], "the architecture must be ViTForImageClassification"),
        ("hidden_size", 16, r"model\.safetensors: .* must be .*Got \("),
    ],
)
def test_a_folder_that_the_family_does_not_compute_is_refused(
    tmp_path: Path, key: str, value: object, message: str
) -> None:
    from kleiber.models.vit import convert  # noqa: PLC0415 - `load` would choose another family for another architecture

    module = random_model()
    save(module, module.spec, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {key: value}))
    with pytest.raises(RunFolderError, match=message):
        convert.load(tmp_path)


@pytest.mark.parametrize(
    ("size", "shape", "message"),
    [
        ({"num_heads": 3, "width": 32}, IMAGES, "vit size: num_heads 3 must divide width 32"),
        ({"patch_size": 0}, IMAGES, "vit size: patch_size"),
        ({"height": 32}, IMAGES, "height belongs to the data"),
        ({}, IMAGES.model_copy(update={"num_outputs": None}), "num_outputs is missing"),
    ],
)
def test_what_does_not_fit_is_refused(size: dict[str, Any], shape: DataShape, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        ViTSpec.of_size({"depth": 1, **size}, shape)


def test_a_spec_refuses_data_that_it_cannot_read() -> None:
    with pytest.raises(ValueError, match=r"vit reads images and gives one answer an image\. Got series"):
        ViTSpec(depth=1, width=8, num_heads=1, mlp_width=8, patch_size=2, shape=DataShape(inputs="series"))
