"""The sizes of a `convnet` and what follows from them, without torch."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from kleiber.models.activations import ActivationName, NormName
from kleiber.models.readable_data import require_readable
from kleiber.models.stages import ImageSize, StageSizes, convolution, image_size
from kleiber.models.weight_layers import LayeredSpec, WeightLayer
from kleiber.runs import DataShape

__all__ = ["ConvNetSpec"]


class ConvNetSpec(LayeredSpec):
    """Shape of a plain convolutional network: stages of convolutions, each ending in a pool, then dense layers.

    Source:
        LeCun et al. 1998, "Gradient-based learning applied to document recognition"; Simonyan and Zisserman 2015,
        arXiv:1409.1556.

    Example:
        >>> shape = DataShape(inputs="images", channels=3, height=224, width=224, num_outputs=1000)
        >>> vgg = {"depth": 13, "width": 64, "dense_widths": [4096, 4096], "norm": "none"}
        >>> ConvNetSpec.of_size(vgg, shape).count().total  # VGG-16
        138357544
    """

    example_shape: ClassVar[DataShape] = DataShape(
        inputs="images", channels=3, height=32, width=32, num_outputs=10
    )
    """Data that the family is planned on when none is named."""

    family: Literal["convnet"] = "convnet"
    stage_depths: StageSizes = Field(min_length=1)
    """Convolutions of each stage."""
    stage_widths: StageSizes = Field(min_length=1)
    """Channels of each stage."""
    dense_widths: StageSizes
    """Features of the hidden layers between the last stage and the head."""
    shape: DataShape
    """Images, spectrograms included."""
    kernel: Annotated[int, Field(strict=True, ge=1, le=99)] = 3
    """Side of every kernel [pixels]."""
    is_padded: bool = Field(default=True, strict=True)
    """A convolution keeps the image's size; else the image loses `kernel - 1` pixels."""
    pool: Literal["max", "mean"] = "max"
    """What each stage ends in, over squares of 2x2."""
    activation: ActivationName = "relu"
    norm: NormName = "batch"
    """After every convolution."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Part of the dense layers' features set to 0 while training."""
    init: Literal["default", "kaiming", "xavier", "orthogonal"] = "kaiming"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.stage_depths) != len(self.stage_widths):
            raise ValueError(
                f"stage_depths has {len(self.stage_depths)} stages and stage_widths {len(self.stage_widths)}"
            )
        if self.is_padded and self.kernel % 2 == 0:
            raise ValueError(f"kernel {self.kernel} must be odd where is_padded keeps the image's size")
        if self.dropout and not self.dense_widths:
            raise ValueError(
                f"dropout is of the dense layers, and dense_widths has none, got {self.dropout:g}"
            )
        if min(self.image_sizes()[-1]) < 1:
            height, width = image_size(self.shape)
            raise ValueError(
                f"nothing is left of a {height}x{width} image after {len(self.stage_depths)} stages;"
                " take fewer stages, a smaller kernel or is_padded: true"
            )
        return self

    @classmethod
    def of_size(cls, size: Mapping[str, Any], shape: DataShape) -> Self:
        """Return the spec that a size gives on images of a shape.

        Args:
            size: `depth` (convolutions), `width` (channels of the first stage) or `params` (a target), and any field of the
                spec to override what follows.
            shape: Of images, with outputs.

        Raises:
            RecipeError: An unknown key, an absurd number, a target out of reach, or data that the family cannot read.
        """
        from kleiber.models.convnet.dial import DIAL  # noqa: PLC0415 - the dial returns specs

        require_readable("convnet", shape, ("images",))
        return cls.model_validate(DIAL.resolve(size, shape).model_dump())

    @property
    def depth(self) -> int:
        """Convolutions."""
        return sum(self.stage_depths)

    @property
    def width(self) -> int:
        """Channels of the first stage."""
        return self.stage_widths[0]

    def image_sizes(self) -> list[ImageSize]:
        """Return the size of the image after each convolution, and last what the dense layers read."""
        lost = 0 if self.is_padded else self.kernel - 1
        height, width = image_size(self.shape)
        sizes = []
        for depth in self.stage_depths:
            for _ in range(depth):
                height, width = max(0, height - lost), max(0, width - lost)
                sizes.append((height, width))
            height, width = height // 2, width // 2
        return [*sizes, (height, width)]

    def channels(self) -> list[int]:
        """Return the channels before and after each convolution."""
        pairs = zip(self.stage_depths, self.stage_widths, strict=True)
        return [self.shape.channels or 1, *(width for depth, width in pairs for _ in range(depth))]

    def features(self) -> list[int]:
        """Return the features before and after each dense layer, the head included."""
        height, width = self.image_sizes()[-1]
        return [self.stage_widths[-1] * height * width, *self.dense_widths, self.shape.num_outputs or 0]

    def layers(self) -> list[WeightLayer]:
        """Return the convolutions, the dense layers and the head."""
        channels, features = itertools.pairwise(self.channels()), itertools.pairwise(self.features())
        return [
            *(
                convolution(before, after, self.kernel, size, self.norm)
                for (before, after), size in zip(channels, self.image_sizes()[:-1], strict=True)
            ),
            *(WeightLayer(after, before, 1, after) for before, after in features),
        ]
