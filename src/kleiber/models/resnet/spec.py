"""The sizes of a `resnet` and what follows from them, without torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from kleiber.models.activations import ActivationName, InitName, NormName
from kleiber.models.readable_data import require_readable
from kleiber.models.stages import (
    ImageSize,
    StageSizes,
    Stem,
    convolution,
    halved,
    image_size,
    split_sizes,
)
from kleiber.models.weight_layers import LayeredSpec, WeightLayer
from kleiber.runs import DataShape

__all__ = ["BOTTLENECK_GROWTH", "BlockKind", "BlockSizes", "ResNetSpec"]

BlockKind = Literal["basic", "bottleneck"]
"""Two 3x3 convolutions; or a 1x1 that narrows, a 3x3, and a 1x1 that widens."""

BOTTLENECK_GROWTH = 4
"""Channels that leave a bottleneck over those inside it (He et al. 2016, table 1)."""

InnerWidths = Annotated[
    tuple[Annotated[int, Field(strict=True, ge=1, le=1_000_000)], ...], BeforeValidator(split_sizes)
]
"""`[8, 12]` in YAML, `8x12` on the command line."""


@dataclass(frozen=True)
class BlockSizes:
    """A residual block: what comes in, what goes on, and how."""

    num_inputs: int
    width: int
    """Channels of the convolutions inside."""
    num_outputs: int
    stride: int
    """Of the first 3x3 convolution: 2 at the start of a stage but the first."""

    @property
    def changes_size(self) -> bool:
        """Whether the block's input cannot be added to its output as it is."""
        return self.stride != 1 or self.num_inputs != self.num_outputs

    def convolutions(self, kind: BlockKind) -> list[tuple[int, int, int, int]]:
        """Return channels before and after, kernel and stride of each convolution on the residual branch."""
        if kind == "basic":
            return [(self.num_inputs, self.width, 3, self.stride), (self.width, self.num_outputs, 3, 1)]
        # The stride is the 3x3's, not the first 1x1's: no pixel is dropped unseen.
        return [
            (self.num_inputs, self.width, 1, 1),
            (self.width, self.width, 3, self.stride),
            (self.width, self.num_outputs, 1, 1),
        ]


class ResNetSpec(LayeredSpec):
    """Shape of a residual network: a stem, stages of residual blocks, each with half the pixels and twice the channels.

    Source:
        He et al. 2016, "Deep residual learning for image recognition", arXiv:1512.03385.

    Example:
        >>> spec = ResNetSpec.of_size({"depth": 20}, ResNetSpec.example_shape)
        >>> spec.stage_depths, spec.width, spec.shortcut, spec.count().total
        ((3, 3, 3), 16, 'padding', 269722)
    """

    example_shape: ClassVar[DataShape] = DataShape(
        inputs="images", channels=3, height=32, width=32, num_outputs=10
    )
    """Data that the family is planned on when none is named."""

    family: Literal["resnet"] = "resnet"
    stage_depths: StageSizes = Field(min_length=1)
    """Blocks of each stage."""
    width: Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
    """Channels of the 3x3 convolutions of the first stage; twice as many in each that follows."""
    block: BlockKind
    stem: Stem
    shortcut: Literal["padding", "projection"]
    """How a block's input reaches its output where their sizes differ: every second pixel, and channels of zeros (option A of
    He et al. 2016, section 3.3: no weights), or a 1x1 convolution (option B)."""
    shape: DataShape
    """Images, spectrograms included."""
    inner_widths: InnerWidths = ()
    """Channels inside each block, block after block, where they are not those of its stage: what a network has whose channels
    were pruned. Between blocks it stays as wide."""
    activation: ActivationName = "relu"
    norm: NormName = "batch"
    """After every convolution."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Part of the head's features set to 0 while training."""
    init: InitName = "kaiming"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.init == "zero_residual" and self.norm == "none":
            raise ValueError(
                "init zero_residual sets the last gain of each block to 0, and norm none has no gains"
            )
        if self.inner_widths and len(self.inner_widths) != sum(self.stage_depths):
            raise ValueError(
                f"inner_widths has {len(self.inner_widths)} sizes, and stage_depths {sum(self.stage_depths)} blocks"
            )
        return self

    @classmethod
    def of_size(cls, size: Mapping[str, Any], shape: DataShape) -> Self:
        """Return the spec that a size gives on images of a shape.

        Args:
            size: `depth` (convolutions in a row, and the head: 18, 34, 50, 101 and 152 are the networks of He et al. 2016 for
                ImageNet, 20, 32, 44, 56, 110 and every other 6n + 2 those for CIFAR-10), `width` (channels of the first stage)
                or `params` (a target), and any field of the spec to override what follows.
            shape: Of images, with outputs.

        Raises:
            RecipeError: An unknown key, an absurd number, a target out of reach, or data that the family cannot read.
        """
        from kleiber.models.resnet.dial import DIAL  # noqa: PLC0415 - the dial returns specs

        require_readable("resnet", shape, ("images",))
        return cls.model_validate(DIAL.resolve(size, shape).model_dump())

    @property
    def depth(self) -> int:
        """Weight layers in a row: stem, the convolutions of all blocks, head."""
        return 2 + sum(self.stage_depths) * (2 if self.block == "basic" else 3)

    @property
    def stem_kernel(self) -> int:
        """Side of the stem's kernel [pixels]."""
        return 3 if self.stem == "cifar" else 7

    def blocks(self) -> Iterator[list[BlockSizes]]:
        """Return the blocks of each stage."""
        growth = 1 if self.block == "basic" else BOTTLENECK_GROWTH
        num_inputs, inner_widths = self.width, iter(self.inner_widths)
        for stage, depth in enumerate(self.stage_depths):
            width, blocks = self.width * 2**stage, []
            for index in range(depth):
                stride = 2 if stage and not index else 1
                blocks.append(BlockSizes(num_inputs, next(inner_widths, width), growth * width, stride))
                num_inputs = growth * width
            yield blocks

    def layers(self) -> list[WeightLayer]:
        """Return the stem, the blocks, shortcuts included, and the head."""
        size = image_size(self.shape)
        size = halved(size) if self.stem == "imagenet" else size
        layers = [convolution(self.shape.channels or 1, self.width, self.stem_kernel, size, self.norm)]
        size = halved(size) if self.stem == "imagenet" else size  # the stem's pool
        num_channels = self.width
        for block in (block for stage in self.blocks() for block in stage):
            layers += self._block_layers(block, size)
            size = halved(size) if block.stride == 2 else size
            num_channels = block.num_outputs
        num_outputs = self.shape.num_outputs or 0
        return [*layers, WeightLayer(num_outputs, num_channels, 1, num_outputs)]

    def _block_layers(self, block: BlockSizes, size: ImageSize) -> Iterator[WeightLayer]:
        if block.changes_size and self.shortcut == "projection":
            after = halved(size) if block.stride == 2 else size
            yield convolution(block.num_inputs, block.num_outputs, 1, after, self.norm)
        for before, after_channels, kernel, stride in block.convolutions(self.block):
            size = halved(size) if stride == 2 else size
            yield convolution(before, after_channels, kernel, size, self.norm)
