"""The `resnet` module.

Shapes: B samples, C channels, H and W pixels, K outputs.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import pad

from kleiber.models.activation_functions import ACTIVATIONS
from kleiber.models.family import FamilyModule
from kleiber.models.groups import ParamGroups, groups_of
from kleiber.models.image_layers import ConvLayer, channels_last
from kleiber.models.initialization import initialize_, seeded
from kleiber.models.resnet.spec import BlockSizes, ResNetSpec

__all__ = ["PaddedShortcut", "ResNet", "ResidualBlock", "build"]


class PaddedShortcut(nn.Module):
    """Every `stride`-th pixel, and channels of zeros after those that come in: a shortcut without weights.

    Source:
        He et al. 2016, arXiv:1512.03385, section 3.3, option A.
    """

    def __init__(self, sizes: BlockSizes) -> None:
        super().__init__()
        self.stride = sizes.stride
        self.num_zeros = sizes.num_outputs - sizes.num_inputs

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the input in the size of the block's output, [B, C, H, W]."""
        return pad(x_BCHW[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.num_zeros))


class ResidualBlock(nn.Module):
    """A shortcut beside two or three convolutions; the activation follows their sum."""

    def __init__(self, sizes: BlockSizes, spec: ResNetSpec) -> None:
        super().__init__()
        convolutions = sizes.convolutions(spec.block)
        last = len(convolutions) - 1
        self.layer = nn.Sequential(
            *(
                ConvLayer(
                    before,
                    after,
                    kernel,
                    spec.norm,
                    None if index == last else spec.activation,
                    stride=stride,
                )
                for index, (before, after, kernel, stride) in enumerate(convolutions)
            )
        )
        self.shortcut = _shortcut(sizes, spec)
        self.activate = ACTIVATIONS[spec.activation]

    @property
    def branch_end(self) -> nn.Module:
        """The last norm before the sum."""
        return self.layer.get_submodule(f"{len(self.layer) - 1}.norm")

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the block's channels, [B, C, H, W]."""
        return self.activate(self.layer(x_BCHW) + self.shortcut(x_BCHW))


def _shortcut(sizes: BlockSizes, spec: ResNetSpec) -> nn.Module:
    if not sizes.changes_size:
        return nn.Identity()
    if spec.shortcut == "padding":
        return PaddedShortcut(sizes)
    return ConvLayer(sizes.num_inputs, sizes.num_outputs, 1, spec.norm, None, stride=sizes.stride)


class ResNet(FamilyModule):
    """A residual network in fp32."""

    def __init__(self, spec: ResNetSpec) -> None:
        super().__init__()
        self.spec = spec
        is_small, channels = spec.stem == "cifar", spec.shape.channels or 1
        self.stem = ConvLayer(
            channels, spec.width, spec.stem_kernel, spec.norm, spec.activation, stride=1 if is_small else 2
        )
        self.pool = nn.Identity() if is_small else nn.MaxPool2d(3, stride=2, padding=1)
        stages = list(spec.blocks())
        self.stages = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(sizes, spec) for sizes in stage)) for stage in stages
        )
        self.dropout = nn.Dropout(spec.dropout)
        self.head = nn.Linear(stages[-1][-1].num_outputs, spec.shape.num_outputs or 0)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Return the outputs of each image, [B, K]."""
        x_BCHW = self.pool(self.stem(channels_last(images_BCHW)))
        for stage in self.stages:
            x_BCHW = stage(x_BCHW)
        outputs_BK: Tensor = self.head(self.dropout(x_BCHW.mean((2, 3))))
        return outputs_BK

    def param_groups(self) -> ParamGroups:
        """Return the names of all parameters by how an optimizer treats them."""
        return groups_of(self, head=["head.weight"])


def build(spec: ResNetSpec, *, seed: int = 0) -> ResNet:
    """Return a network with freshly initialized weights [fp32, CPU]; the same seed gives the same weights."""
    with seeded(seed):
        module = ResNet(spec)
        ends = [block.branch_end for block in module.modules() if isinstance(block, ResidualBlock)]
        initialize_(module, spec.init, spec.activation, head=module.head, branch_ends=ends)
    return module
