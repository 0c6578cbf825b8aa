from __future__ import annotations

import pytest
import torch

from kleiber.errors import RecipeError
from kleiber.models import build
from kleiber.models.inception import InceptionSpec
from kleiber.models.inception.module import InceptionBlock
from kleiber.models.inception.spec import Branches
from kleiber.runs import DataShape

IMAGENET = DataShape(inputs="images", channels=3, height=224, width=224, num_outputs=1000)


def test_a_block_of_256_is_3a_of_googlenet() -> None:
    # Szegedy et al. 2015, table 1: 159K parameters and 128M operations (multiply-adds), on 192 channels of 28x28
    layers = Branches.of(256).layers(192, (28, 28), "none")
    num_weights = sum(layer.num_params - layer.num_vector_params for layer in layers)
    assert num_weights == 163_328
    assert round(num_weights / 1024) == 159 or num_weights // 1024 == 159
    assert round(sum(layer.forward_flops for layer in layers) / 2 / 1e6) == 128


def test_the_stem_for_large_images_is_googlenets() -> None:
    # Table 1: 7x7 with 64 channels at 112x112, then 192 channels at 56x56, and 28x28 for the blocks.
    spec = InceptionSpec.of_size({"stage_depths": "2x5x2", "width": 256}, IMAGENET)
    assert spec.stem_layers() == [(3, 64, 7, (112, 112)), (64, 64, 1, (56, 56)), (64, 192, 3, (56, 56))]
    assert spec.layers()[3].num_positions == 28 * 28
    assert (spec.depth, spec.layers()[-1].fan_in) == (9, 1024)


def test_branches_stand_side_by_side() -> None:
    spec = InceptionSpec.of_size({"depth": 1, "width": 32, "norm": "none"}, InceptionSpec.example_shape)
    block = InceptionBlock(16, 32, spec)
    x = torch.randn(2, 16, 9, 7, generator=torch.Generator().manual_seed(0))
    before = block(x)
    assert before.shape == (2, 32, 9, 7)
    # A pixel far away reaches a branch by its kernel alone: 1, 3, 5 and, through the pool, 3 pixels wide.
    sizes = Branches.of(32)
    widths = {0: (sizes.point, 1), 1: (sizes.kernel_3, 3), 2: (sizes.kernel_5, 5), 3: (sizes.pooled, 3)}
    changed = x.clone()
    changed[:, :, 4, 3] += 100 * torch.sign(torch.randn(16, generator=torch.Generator().manual_seed(1)))
    reached = (block(changed) != before).any(0)
    start = 0
    for branch, (num_channels, kernel) in widths.items():
        rows = reached[start : start + num_channels].any(0).any(1).nonzero().flatten()
        assert rows.tolist() == list(range(4 - kernel // 2, 5 + kernel // 2)), branch
        start += num_channels
    assert start == 32


def test_stages_halve_the_image_and_double_the_channels() -> None:
    module = build(InceptionSpec.of_size({"depth": 3, "width": 16}, InceptionSpec.example_shape))
    sizes = []
    for stage in module.stages:
        stage.register_forward_hook(lambda _module, _args, out: sizes.append(tuple(out.shape[1:])))
    module(torch.zeros(2, 3, 32, 32))
    assert sizes == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ({"depth": 3, "width": 24}, "width: input should be a multiple of 16"),
        ({"depth": 3, "stem": "none"}, "stem: input should be 'cifar' or 'imagenet'"),
        ({"stage_depths": [1] * 17}, "stage_depths"),
    ],
)
def test_what_does_not_fit_together_is_refused(size: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=f"inception size: {message}"):
        InceptionSpec.of_size(size, InceptionSpec.example_shape)
