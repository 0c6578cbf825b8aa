from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it

from kleiber.errors import RecipeError
from kleiber.models import build
from kleiber.models.convnet import ConvNetSpec
from kleiber.runs import DataShape

IMAGENET = DataShape(inputs="images", channels=3, height=224, width=224, num_outputs=1000)
CIFAR = ConvNetSpec.example_shape
PADDED_MNIST = DataShape(inputs="images", channels=1, height=32, width=32, num_outputs=10)
LENET = {
    "stage_depths": "1x1", "stage_widths": "6x16", "dense_widths": "120x84", "kernel": 5, "is_padded": False,
    "norm": "none",
}  # fmt: skip
VGG = {"width": 64, "dense_widths": "4096x4096", "norm": "none"}


@pytest.mark.parametrize(
    ("size", "num_params"),
    [
        ({"depth": 8}, 132_863_336),
        ({"depth": 10}, 133_047_848),
        ({"depth": 13}, 138_357_544),
        ({"stage_depths": "2x2x4x4x4"}, 143_667_240),
    ],
)
def test_counts_of_vgg_as_published(size: dict[str, object], num_params: int) -> None:
    assert ConvNetSpec.of_size(VGG | size, IMAGENET).count().total == num_params


def test_operations_of_vgg_16_as_published() -> None:
    # 15.47 billion multiply-adds: 15,346,630,656 of the convolutions and 123,633,664 of the dense layers
    spec = ConvNetSpec.of_size(VGG | {"depth": 13}, IMAGENET)
    assert spec.flops(1).forward == 2 * (15_346_630_656 + 123_633_664)


def test_counts_of_lenet() -> None:
    assert ConvNetSpec.of_size(LENET, CIFAR).count().total == 62_006  # as the articles' network for CIFAR-10
    assert ConvNetSpec.of_size(LENET, PADDED_MNIST).count().total == 61_706
    assert ConvNetSpec.of_size(LENET, CIFAR).image_sizes() == [(28, 28), (10, 10), (5, 5)]


def test_the_outputs_of_lenet_are_those_of_the_formula() -> None:
    module = build(ConvNetSpec.of_size(LENET, CIFAR)).double()
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    p = dict(module.named_parameters())
    x = images
    for layer in ("stages.0.0.conv", "stages.1.0.conv"):
        x = F.max_pool2d(F.relu(F.conv2d(x, p[f"{layer}.weight"], p[f"{layer}.bias"])), 2)
    x = x.flatten(1)
    for layer in ("dense.0", "dense.1"):
        x = F.relu(F.linear(x, p[f"{layer}.weight"], p[f"{layer}.bias"]))
    expected = F.linear(x, p["head.weight"], p["head.bias"])
    assert torch.allclose(module(images), expected, atol=1e-12)


def test_the_image_says_how_many_stages() -> None:
    def stages(height: int, width: int, depth: int = 9) -> tuple[int, ...]:
        shape = DataShape(inputs="images", channels=1, height=height, width=width, num_outputs=2)
        return ConvNetSpec.of_size({"depth": depth}, shape).stage_depths

    assert (stages(224, 224), stages(32, 32), stages(28, 28)) == ((1, 2, 2, 2, 2), (3, 3, 3), (3, 3, 3))
    assert (stages(8, 8), stages(64, 13)) == ((9,), (4, 5))
    assert stages(224, 224, 3) == (1, 1, 1)


def test_channels_double_up_to_eight_times() -> None:
    spec = ConvNetSpec.of_size({"depth": 5, "width": 6}, IMAGENET)
    assert (spec.stage_widths, spec.dense_widths) == ((6, 12, 24, 48, 48), (24,))
    assert ConvNetSpec.of_size({"depth": 2, "width": 6, "dense_widths": []}, CIFAR).dense_widths == ()


def test_widths_of_stages_leave_the_depth_to_the_dial() -> None:
    assert ConvNetSpec.of_size({"stage_widths": "6x16"}, CIFAR).stage_depths == (1, 1)
    spec = ConvNetSpec.of_size({"stage_widths": "16x32", "params": 3e5}, CIFAR)
    assert spec.stage_widths == (16, 32)
    assert abs(spec.count().total / 3e5 - 1) < 0.2


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ({"depth": 5, "is_padded": False, "kernel": 7}, "nothing is left of a 32x32 image after 3 stages"),
        ({"stage_depths": "1x1x1x1x1x1"}, "nothing is left of a 32x32 image after 6 stages"),
        ({"depth": 4, "kernel": 4}, "kernel 4 must be odd where is_padded keeps the image's size"),
        ({"stage_depths": "1x1", "stage_widths": "6x16x32"}, "stage_depths has 2 stages and stage_widths 3"),
        ({"depth": 4, "stage_widths": "6x-1"}, "stage_widths"),
        ({"width": 8, "stage_widths": "6x16"}, "width and stage_widths both say the width"),
        (
            {"depth": 4, "dense_widths": [], "dropout": 0.5},
            "dropout is of the dense layers, and dense_widths has none",
        ),
        ({"depth": 4, "pool": "sum"}, "pool: input should be 'max' or 'mean'"),
        ({"depth": 4, "init": "zero_residual"}, "init: input should be"),
    ],
)
def test_what_does_not_fit_together_is_refused(size: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=f"convnet size: .*{message}"):
        ConvNetSpec.of_size(size, CIFAR)
