"""Specs of networks that are a list of weight layers: what a spec says of itself follows from that list alone."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kleiber.cost.flops import FlopConvention, FlopCount
from kleiber.runs import DataShape, Document, ParamCount

__all__ = ["LayeredSpec", "WeightLayer"]


@dataclass(frozen=True)
class WeightLayer:
    """A linear layer, or a convolution as the linear layer that it applies at every position.

    Example:
        >>> stem = WeightLayer(16, 3 * 9, num_positions=32 * 32, num_vector_params=2 * 16)  # 3x3 on 32x32 RGB, and its norm
        >>> stem.num_params, stem.forward_flops
        (464, 884736)
    """

    num_outputs: int
    """Features or channels that come out."""
    fan_in: int
    """Numbers that each output sums: features, or channels times the area of the kernel."""
    num_positions: int = 1
    """Places in a sample where it is applied: pixels of the output."""
    num_vector_params: int = 0
    """Bias, and gains and shifts of the norm that follows."""

    @property
    def num_params(self) -> int:
        """Weights, bias and the norm that follows."""
        return self.num_outputs * self.fan_in + self.num_vector_params

    @property
    def is_normalized(self) -> bool:
        """Whether a norm with a gain and a shift follows: there are no biases then."""
        return self.num_vector_params > self.num_outputs

    @property
    def forward_flops(self) -> int:
        """Operations on one sample, 2 per multiply-add."""
        return 2 * self.num_outputs * self.fan_in * self.num_positions


class LayeredSpec(Document):
    """A spec that lists its weight layers: the first reads the data, the last is the head."""

    shape: DataShape
    """What the network sees of its data."""

    if TYPE_CHECKING:  # a field of some families, and follows from the fields of others

        @property
        def depth(self) -> int:
            """Layers, counted as the family is used to."""

        @property
        def width(self) -> int:
            """Features or channels of a layer, the first one's where they differ."""

        @property
        def norm(self) -> str:
            """Normalization of the layers before the head."""

    @abstractmethod
    def layers(self) -> list[WeightLayer]:
        """Return all weight layers; only the places of the first and the last matter."""

    @property
    def min_batch(self) -> int:
        """Samples that a forward pass in training needs: the norm of a batch compares two numbers a channel or more."""
        is_single = any(layer.is_normalized and layer.num_positions == 1 for layer in self.layers())
        return 2 if self.norm == "batch" and is_single else 1

    def hidden_shapes(self) -> list[tuple[int, int]]:
        """Return rows and columns of every matrix before the head, kernels of a convolution laid out in its columns."""
        return [(layer.num_outputs, layer.fan_in) for layer in self.layers()[:-1]]

    def count(self) -> ParamCount:
        """Return the parameters by group; equal to what the built module holds. Nothing is looked up in a table."""
        *body, head = self.layers()
        return ParamCount(embedding=0, body=sum(layer.num_params for layer in body), head=head.num_params)

    def flops(
        self, batch: int, context: int | None = None, *, convention: FlopConvention = "causal"
    ) -> FlopCount:
        """Return the operations of one step on `batch` samples.

        Backward is twice forward, a product for the gradient of each factor, less one product of the first layer:
        nobody asks for the gradient of the data.

        Args:
            batch: Samples.
            context: Of no effect: a sample's size is the spec's own.
            convention: Named in the count; without attention both count alike.
        """
        del context
        layers = self.layers()
        forward = batch * sum(layer.forward_flops for layer in layers)
        backward = 2 * forward - batch * layers[0].forward_flops
        return FlopCount(forward=forward, backward=backward, convention=convention)
