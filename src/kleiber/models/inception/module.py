"""The `inception` module.

Shapes: B samples, C channels, H and W pixels, K outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kleiber.models.family import FamilyModule
from kleiber.models.groups import ParamGroups, groups_of
from kleiber.models.image_layers import ConvLayer, channels_last
from kleiber.models.inception.spec import Branches, InceptionSpec
from kleiber.models.initialization import initialize_, seeded

__all__ = ["Inception", "InceptionBlock", "build"]


def _shrinking_pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, stride=2, padding=1)


class InceptionBlock(nn.Module):
    """Four branches over the same channels, side by side: 1x1; 3x3; 5x5; a pool; each but the first with a 1x1 of its own."""

    def __init__(self, num_inputs: int, width: int, spec: InceptionSpec) -> None:
        super().__init__()

        def conv(before: int, after: int, kernel: int) -> ConvLayer:
            return ConvLayer(before, after, kernel, spec.norm, spec.activation)

        sizes = Branches.of(width)
        self.branches = nn.ModuleList(
            [
                conv(num_inputs, sizes.point, 1),
                nn.Sequential(conv(num_inputs, sizes.reduced_3, 1), conv(sizes.reduced_3, sizes.kernel_3, 3)),
                nn.Sequential(conv(num_inputs, sizes.reduced_5, 1), conv(sizes.reduced_5, sizes.kernel_5, 5)),
                nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), conv(num_inputs, sizes.pooled, 1)),
            ]
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the channels of all branches, one branch after another, [B, C, H, W]."""
        return torch.cat([branch(x_BCHW) for branch in self.branches], 1)


class Inception(FamilyModule):
    """A network of inception blocks in fp32."""

    def __init__(self, spec: InceptionSpec) -> None:
        super().__init__()
        self.spec = spec
        num_channels = spec.stem_layers()[-1][1]
        self.stem = _stem(spec)
        self.stages = nn.ModuleList()
        for stage, depth in enumerate(spec.stage_depths):
            blocks: list[nn.Module] = [_shrinking_pool()] if stage else []
            for _ in range(depth):
                blocks.append(InceptionBlock(num_channels, spec.stage_width(stage), spec))
                num_channels = spec.stage_width(stage)
            self.stages.append(nn.Sequential(*blocks))
        self.dropout = nn.Dropout(spec.dropout)
        self.head = nn.Linear(num_channels, spec.shape.num_outputs or 0)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Return the outputs of each image, [B, K]."""
        x_BCHW = self.stem(channels_last(images_BCHW))
        for stage in self.stages:
            x_BCHW = stage(x_BCHW)
        outputs_BK: Tensor = self.head(self.dropout(x_BCHW.mean((2, 3))))
        return outputs_BK

    def param_groups(self) -> ParamGroups:
        """Return the names of all parameters by how an optimizer treats them."""
        return groups_of(self, head=["head.weight"])


def _stem(spec: InceptionSpec) -> nn.Sequential:
    first, *rest = [
        ConvLayer(before, after, kernel, spec.norm, spec.activation, stride=2 if kernel == 7 else 1)
        for before, after, kernel, _ in spec.stem_layers()
    ]
    if spec.stem == "cifar":
        return nn.Sequential(first)
    return nn.Sequential(first, _shrinking_pool(), *rest, _shrinking_pool())


def build(spec: InceptionSpec, *, seed: int = 0) -> Inception:
    """Return a network with freshly initialized weights [fp32, CPU]; the same seed gives the same weights."""
    with seeded(seed):
        module = Inception(spec)
        initialize_(module, spec.init, spec.activation, head=module.head)
    return module
