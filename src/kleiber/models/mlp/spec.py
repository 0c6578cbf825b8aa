"""The sizes of an `mlp` and what follows from them, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from kleiber.models.activations import ActivationName
from kleiber.models.readable_data import require_readable
from kleiber.models.weight_layers import LayeredSpec, WeightLayer
from kleiber.runs import DataShape

__all__ = ["MLPSpec"]


class MLPSpec(LayeredSpec):
    """Shape of a multi-layer perceptron: `depth` hidden layers of `width` features, each normalized, activated, dropped out.

    Example:
        >>> shape = DataShape(inputs="images", channels=1, height=28, width=28, num_outputs=10)
        >>> MLPSpec.of_size({"depth": 2, "width": 300}, shape).count().total  # 784-300-300-10
        328810
    """

    example_shape: ClassVar[DataShape] = DataShape(
        inputs="images", channels=1, height=28, width=28, num_outputs=10
    )
    """Data that the family is planned on when none is named."""

    family: Literal["mlp"] = "mlp"
    depth: Annotated[int, Field(strict=True, ge=1, le=10_000)]
    """Hidden layers."""
    width: Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
    """Features of each hidden layer."""
    shape: DataShape
    """What is read: features, or images and series number by number."""
    activation: ActivationName = "relu"
    norm: Literal["none", "layer", "batch"] = "none"
    """Normalization before each activation: none, over the features of a sample, over a batch."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Part of the hidden features set to 0 while training."""
    init: Literal["default", "kaiming", "xavier", "orthogonal"] = "kaiming"

    @classmethod
    def of_size(cls, size: Mapping[str, Any], shape: DataShape) -> Self:
        """Return the spec that a size gives on data of a shape.

        Args:
            size: `depth`, `width` or `params` (a target), and any field of the spec to override what follows.
            shape: Of features, images or series, with outputs.

        Raises:
            RecipeError: An unknown key, an absurd number, a target out of reach, or data that the family cannot read.
        """
        from kleiber.models.mlp.dial import DIAL  # noqa: PLC0415 - the dial returns specs

        require_readable("mlp", shape, ("features", "images", "series"))
        return cls.model_validate(DIAL.resolve(size, shape).model_dump())

    def layers(self) -> list[WeightLayer]:
        """Return the hidden layers and the head."""
        # A layer that is normalized needs no bias: the norm has a shift.
        num_vectors = 1 if self.norm == "none" else 2
        widths = [self.shape.num_inputs] + [self.width] * self.depth
        hidden = [WeightLayer(self.width, fan_in, 1, num_vectors * self.width) for fan_in in widths[:-1]]
        num_outputs = self.shape.num_outputs or 0
        return [*hidden, WeightLayer(num_outputs, self.width, 1, num_outputs)]
