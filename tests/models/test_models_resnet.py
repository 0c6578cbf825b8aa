from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it

from kleiber.errors import RecipeError
from kleiber.models import build
from kleiber.models.resnet import ResNetSpec
from kleiber.models.resnet.module import PaddedShortcut
from kleiber.models.resnet.spec import BlockSizes
from kleiber.runs import DataShape

CIFAR = ResNetSpec.example_shape
IMAGENET = DataShape(inputs="images", channels=3, height=224, width=224, num_outputs=1000)


@pytest.mark.parametrize(
    ("depth", "num_params", "num_products"),
    [
        (18, 11_689_512, 1_814_073_344),
        (34, 21_797_672, 3_663_761_408),
        (50, 25_557_032, 4_089_184_256),
        (101, 44_549_160, 7_801_405_440),
        (152, 60_192_808, 11_513_626_624),
    ],
)
def test_the_networks_for_imagenet_as_published(depth: int, num_params: int, num_products: int) -> None:
    spec = ResNetSpec.of_size({"depth": depth}, IMAGENET)
    assert (spec.depth, spec.width, spec.stem, spec.shortcut) == (depth, 64, "imagenet", "projection")
    assert spec.count().total == num_params
    assert spec.flops(1).forward == 2 * num_products


@pytest.mark.parametrize(
    ("depth", "num_params"), [(20, 269_722), (32, 464_154), (44, 658_586), (56, 853_018), (110, 1_727_962)]
)
def test_the_networks_for_cifar_as_published(depth: int, num_params: int) -> None:
    # He et al. 2016, table 6: 0.27M, 0.46M, 0.66M, 0.85M, 1.7M
    spec = ResNetSpec.of_size({"depth": depth}, CIFAR)
    assert (spec.depth, spec.width, spec.block) == (depth, 16, "basic")
    assert spec.stage_depths == ((depth - 2) // 6,) * 3
    assert spec.count().total == num_params
    # Option B: two 1x1 convolutions and their norms more.
    projected = ResNetSpec.of_size({"depth": depth, "shortcut": "projection"}, CIFAR)
    assert projected.count().total == num_params + 16 * 32 + 64 + 32 * 64 + 128


def test_depths_and_blocks() -> None:
    def stages(**size: object) -> tuple[object, ...]:
        spec = ResNetSpec.of_size(size, CIFAR)
        return spec.stage_depths, spec.block, spec.width, spec.depth

    assert stages(depth=18) == ((2, 2, 2, 2), "basic", 64, 18)
    assert stages(depth=50) == ((3, 4, 6, 3), "bottleneck", 64, 50)
    assert stages(depth=50, block="basic") == ((8, 8, 8), "basic", 16, 50)
    assert stages(depth=164, block="bottleneck") == ((18, 18, 18), "bottleneck", 16, 164)
    assert stages(stage_depths="1x1", block="bottleneck", width=8) == ((1, 1), "bottleneck", 8, 8)


def test_the_shortcut_without_weights_keeps_every_second_pixel() -> None:
    x = torch.arange(2 * 3 * 5 * 4, dtype=torch.float32).reshape(2, 3, 5, 4) + 1
    out = PaddedShortcut(BlockSizes(num_inputs=3, width=6, num_outputs=6, stride=2))(x)
    assert out.shape == (2, 6, 3, 2)
    for row in range(3):
        for column in range(2):
            assert torch.equal(out[:, :3, row, column], x[:, :, 2 * row, 2 * column])
    assert out[:, 3:].abs().max() == 0


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_a_block_adds_what_comes_in(block: str) -> None:
    # With every branch ending in 0 a block of equal sizes is relu of its input, and the network its shortcuts.
    spec = ResNetSpec.of_size(
        {"stage_depths": "2x2", "width": 4, "block": block, "init": "zero_residual"}, CIFAR
    )
    module = build(spec).eval()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    stem = module.stem(images)
    growth = spec.layers()[-1].fan_in - stem.shape[1]
    expected = F.pad(stem[:, :, ::2, ::2], (0, 0, 0, 0, 0, growth)).mean((2, 3))
    assert torch.allclose(module(images), module.head(expected), atol=1e-5)
    for layer in module.stages[0][0].layer:
        torch.nn.init.ones_(layer.norm.weight)
    assert not torch.allclose(module(images), module.head(expected), atol=1e-3)


def test_a_basic_block_is_its_formula() -> None:
    module = build(ResNetSpec.of_size({"stage_depths": "1x1", "width": 4, "shortcut": "projection"}, CIFAR))
    block = module.stages[1][0].double().eval()
    x = torch.randn(2, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def conv(layer: torch.nn.Module, x: torch.Tensor, stride: int, padding: int) -> torch.Tensor:
        # Fresh running statistics are 0 and 1.
        return F.conv2d(x, layer.conv.weight, None, stride, padding) / (1 + 1e-5) ** 0.5

    first, second = block.layer
    branch = conv(second, F.relu(conv(first, x, 2, 1)), 1, 1)
    assert torch.allclose(block(x), F.relu(branch + conv(block.shortcut, x, 2, 0)), atol=1e-10)


def test_the_stride_of_a_bottleneck_is_its_3x3() -> None:
    sizes = BlockSizes(num_inputs=16, width=8, num_outputs=32, stride=2)
    assert sizes.convolutions("bottleneck") == [(16, 8, 1, 1), (8, 8, 3, 2), (8, 32, 1, 1)]
    assert sizes.convolutions("basic") == [(16, 8, 3, 2), (8, 32, 3, 1)]


def test_inner_widths_are_those_of_each_block() -> None:
    spec = ResNetSpec.of_size({"stage_depths": "1x2", "width": 8, "inner_widths": "3x5x7"}, CIFAR)
    module = build(spec)
    shapes = [
        tuple(block.layer[0].conv.weight.shape)[:2] + tuple(block.layer[1].conv.weight.shape)[:2]
        for stage in module.stages
        for block in stage
    ]
    assert shapes == [(3, 8, 8, 3), (5, 8, 16, 5), (7, 16, 16, 7)]
    # Stem 3*8*9 + 16; convolutions with their norms; head 16*10 + 10.
    inner = [(8, 3, 8), (8, 5, 16), (16, 7, 16)]
    expected = 216 + 16 + sum(9 * i * (a + b) + 2 * i + 2 * b for a, i, b in inner) + 170
    assert spec.count().total == expected == sum(p.numel() for p in module.parameters())
    assert (
        spec.flops(1).forward
        < ResNetSpec.of_size({"stage_depths": "1x2", "width": 8}, CIFAR).flops(1).forward
    )
    bottleneck = ResNetSpec.of_size(
        {"stage_depths": "1x1", "width": 4, "block": "bottleneck", "inner_widths": [2, 3]}, CIFAR
    )
    assert bottleneck.count().total == sum(p.numel() for p in build(bottleneck).parameters())


@pytest.mark.parametrize(
    ("size", "message", "hint"),
    [
        ({"depth": 8, "inner_widths": [4, 4]}, "inner_widths has 2 sizes, and stage_depths 3 blocks", None),
        ({"depth": 21}, r"depth must be one of 18, 34, 50, 101, 152, or 6n \+ 2 .* Got 21", "resnet:depth=20"),
        ({"depth": 3}, r"or 6n \+ 2", "resnet:depth=8"),
        ({"depth": 22, "block": "bottleneck"}, r"or 9n \+ 2 for three stages of n blocks of 3", "resnet:depth=20"),
        ({"depth": 20, "block": "wide"}, "block: input should be 'basic' or 'bottleneck'", None),
        ({"depth": 20, "shortcut": "none"}, "shortcut: input should be 'padding' or 'projection'", None),
        ({"depth": 20, "norm": "none", "init": "zero_residual"}, "norm none has no gains", None),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_refused(
    size: dict[str, object], message: str, hint: str | None
) -> None:
    with pytest.raises(RecipeError, match=f"resnet size: .*{message}") as raised:
        ResNetSpec.of_size(size, CIFAR)
    assert hint is None or hint in str(raised.value.hint)
