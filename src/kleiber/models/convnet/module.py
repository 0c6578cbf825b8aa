"""The `convnet` module.

Shapes: B samples, C channels, H and W pixels, F features, K outputs.
"""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from kleiber.models.activation_functions import ACTIVATIONS
from kleiber.models.convnet.spec import ConvNetSpec
from kleiber.models.family import FamilyModule
from kleiber.models.groups import ParamGroups, groups_of
from kleiber.models.image_layers import ConvLayer, channels_last
from kleiber.models.initialization import initialize_, seeded

__all__ = ["ConvNet", "build"]


class ConvNet(FamilyModule):
    """A plain convolutional network in fp32."""

    def __init__(self, spec: ConvNetSpec) -> None:
        super().__init__()
        self.spec = spec
        convs = (
            ConvLayer(before, after, spec.kernel, spec.norm, spec.activation, is_padded=spec.is_padded)
            for before, after in itertools.pairwise(spec.channels())
        )
        self.stages = nn.ModuleList(
            nn.Sequential(*itertools.islice(convs, depth)) for depth in spec.stage_depths
        )
        self.pool = nn.MaxPool2d(2) if spec.pool == "max" else nn.AvgPool2d(2)
        *hidden, (last, num_outputs) = itertools.pairwise(spec.features())
        self.dense = nn.ModuleList(nn.Linear(before, after) for before, after in hidden)
        self.activate = ACTIVATIONS[spec.activation]
        self.dropout = nn.Dropout(spec.dropout)
        self.head = nn.Linear(last, num_outputs)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Return the outputs of each image, [B, K]."""
        x_BCHW = channels_last(images_BCHW)
        for stage in self.stages:
            x_BCHW = self.pool(stage(x_BCHW))
        x_BF = x_BCHW.flatten(1)
        for layer in self.dense:
            x_BF = self.dropout(self.activate(layer(x_BF)))
        outputs_BK: Tensor = self.head(x_BF)
        return outputs_BK

    def param_groups(self) -> ParamGroups:
        """Return the names of all parameters by how an optimizer treats them."""
        return groups_of(self, head=["head.weight"])


def build(spec: ConvNetSpec, *, seed: int = 0) -> ConvNet:
    """Return a network with freshly initialized weights [fp32, CPU]; the same seed gives the same weights."""
    with seeded(seed):
        module = ConvNet(spec)
        initialize_(module, spec.init, spec.activation, head=module.head)
    return module
