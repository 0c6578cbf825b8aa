"""The `mlp` module.

Shapes: B samples, F features of a layer, C outputs.
"""

from __future__ import annotations

from torch import Tensor, nn

from kleiber.models.activation_functions import ACTIVATIONS
from kleiber.models.family import FamilyModule
from kleiber.models.groups import ParamGroups, groups_of
from kleiber.models.initialization import initialize_, seeded
from kleiber.models.mlp.spec import MLPSpec

__all__ = ["MLP", "build"]

_NORMS = {"none": nn.Identity, "layer": nn.LayerNorm, "batch": nn.BatchNorm1d}


class Layer(nn.Module):
    """A hidden layer: linear, norm, activation, dropout."""

    def __init__(self, num_inputs: int, spec: MLPSpec) -> None:
        super().__init__()
        self.linear = nn.Linear(num_inputs, spec.width, bias=spec.norm == "none")
        self.norm = _NORMS[spec.norm](spec.width)
        self.activate = ACTIVATIONS[spec.activation]
        self.dropout = nn.Dropout(spec.dropout)

    def forward(self, x_BF: Tensor) -> Tensor:
        """Return the layer's features, [B, F]."""
        features_BF: Tensor = self.dropout(self.activate(self.norm(self.linear(x_BF))))
        return features_BF


class MLP(FamilyModule):
    """A multi-layer perceptron in fp32."""

    def __init__(self, spec: MLPSpec) -> None:
        super().__init__()
        self.spec = spec
        num_inputs = [spec.shape.num_inputs] + [spec.width] * (spec.depth - 1)
        self.layers = nn.Sequential(*(Layer(num, spec) for num in num_inputs))
        self.head = nn.Linear(spec.width, spec.shape.num_outputs or 0)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs of each sample, [B, C].

        Args:
            x: Features [B, F], images [B, C, H, W] or series [B, T, F].
        """
        outputs_BC: Tensor = self.head(self.layers(x.flatten(1)))
        return outputs_BC

    def param_groups(self) -> ParamGroups:
        """Return the names of all parameters by how an optimizer treats them."""
        return groups_of(self, head=["head.weight"])


def build(spec: MLPSpec, *, seed: int = 0) -> MLP:
    """Return a perceptron with freshly initialized weights [fp32, CPU]; the same seed gives the same weights."""
    with seeded(seed):
        module = MLP(spec)
        initialize_(module, spec.init, spec.activation, head=module.head)
    return module
