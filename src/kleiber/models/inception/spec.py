"""The sizes of an `inception` network and what follows from them, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from kleiber.models.activations import ActivationName, NormName
from kleiber.models.readable_data import require_readable
from kleiber.models.stages import ImageSize, StageSizes, Stem, convolution, halved, image_size
from kleiber.models.weight_layers import LayeredSpec, WeightLayer
from kleiber.runs import DataShape

__all__ = ["Branches", "InceptionSpec"]


@dataclass(frozen=True)
class Branches:
    """Channels inside a block: what its four branches return adds up to the block's width.

    The parts are those of block 3a of GoogLeNet, and so is a block of 256.

    Source:
        Szegedy et al. 2015, arXiv:1409.4842, table 1.

    Example:
        >>> Branches.of(256)
        Branches(point=64, reduced_3=96, kernel_3=128, reduced_5=16, kernel_5=32, pooled=32)
    """

    point: int
    """Of the 1x1 branch."""
    reduced_3: int
    """Of the 1x1 before the 3x3."""
    kernel_3: int
    reduced_5: int
    """Of the 1x1 before the 5x5."""
    kernel_5: int
    pooled: int
    """Of the 1x1 after the pool."""

    @classmethod
    def of(cls, width: int) -> Branches:
        """Return the branches of a block of `width` channels, a multiple of 16."""
        part = width // 16
        return cls(4 * part, 6 * part, 8 * part, part, 2 * part, 2 * part)

    def layers(self, num_inputs: int, size: ImageSize, norm: NormName) -> list[WeightLayer]:
        """Return the convolutions of a block over images of a size."""
        kernels = [
            (num_inputs, self.point, 1),
            (num_inputs, self.reduced_3, 1),
            (self.reduced_3, self.kernel_3, 3),
            (num_inputs, self.reduced_5, 1),
            (self.reduced_5, self.kernel_5, 5),
            (num_inputs, self.pooled, 1),
        ]
        return [convolution(before, after, kernel, size, norm) for before, after, kernel in kernels]


class InceptionSpec(LayeredSpec):
    """Shape of a network of inception blocks: a stem, stages of blocks, between two of them a pool and twice the channels.

    Without the auxiliary heads of the original: normalization does what they were for (Ioffe and Szegedy 2015).

    Example:
        >>> spec = InceptionSpec.of_size({"depth": 3, "width": 32}, InceptionSpec.example_shape)
        >>> spec.stage_depths, spec.stem, spec.count().total
        ((1, 1, 1), 'cifar', 51622)
    """

    example_shape: ClassVar[DataShape] = DataShape(
        inputs="images", channels=3, height=32, width=32, num_outputs=10
    )
    """Data that the family is planned on when none is named."""

    family: Literal["inception"] = "inception"
    stage_depths: StageSizes = Field(min_length=1)
    """Blocks of each stage; GoogLeNet's are 2, 5, 2."""
    width: Annotated[int, Field(strict=True, ge=16, le=1_000_000, multiple_of=16)]
    """Channels of the blocks of the first stage; GoogLeNet's are 256."""
    stem: Stem
    shape: DataShape
    """Images, spectrograms included."""
    activation: ActivationName = "relu"
    norm: NormName = "batch"
    """After every convolution."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Part of the head's features set to 0 while training."""
    init: Literal["default", "kaiming", "xavier", "orthogonal"] = "kaiming"

    @classmethod
    def of_size(cls, size: Mapping[str, Any], shape: DataShape) -> Self:
        """Return the spec that a size gives on images of a shape.

        Args:
            size: `depth` (blocks), `width` (channels of the first blocks, a multiple of 16) or `params` (a target), and any
                field of the spec to override what follows.
            shape: Of images, with outputs.

        Raises:
            RecipeError: An unknown key, an absurd number, a target out of reach, or data that the family cannot read.
        """
        from kleiber.models.inception.dial import DIAL  # noqa: PLC0415 - the dial returns specs

        require_readable("inception", shape, ("images",))
        return cls.model_validate(DIAL.resolve(size, shape).model_dump())

    @property
    def depth(self) -> int:
        """Blocks."""
        return sum(self.stage_depths)

    def stage_width(self, stage: int) -> int:
        """Return the channels of the blocks of a stage."""
        return self.width << stage

    def stem_layers(self) -> list[tuple[int, int, int, ImageSize]]:
        """Return channels before and after, kernel and output size of each convolution of the stem.

        The larger stem is GoogLeNet's where the width is 256: 64 channels by 7x7, 64, 192.
        """
        channels, part, full = self.shape.channels or 1, self.width // 4, image_size(self.shape)
        if self.stem == "cifar":
            return [(channels, 2 * part, 3, full)]
        # The first convolution has a stride of 2, and a pool follows it.
        half, quarter = halved(full), halved(halved(full))
        return [(channels, part, 7, half), (part, part, 1, quarter), (part, 3 * part, 3, quarter)]

    def layers(self) -> list[WeightLayer]:
        """Return the stem, the blocks branch by branch, and the head."""
        stem = self.stem_layers()
        layers = [convolution(*sizes, self.norm) for sizes in stem]
        _, num_channels, _, size = stem[-1]
        size = halved(size) if self.stem == "imagenet" else size
        for stage, depth in enumerate(self.stage_depths):
            size = halved(size) if stage else size
            for _ in range(depth):
                layers += Branches.of(self.stage_width(stage)).layers(num_channels, size, self.norm)
                num_channels = self.stage_width(stage)
        num_outputs = self.shape.num_outputs or 0
        return [*layers, WeightLayer(num_outputs, num_channels, 1, num_outputs)]
