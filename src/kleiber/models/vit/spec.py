"""The sizes of a `vit` model and what follows from them, without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from kleiber.cost.flops import FlopConvention, FlopCount
from kleiber.models.block_spec import BlockSpec
from kleiber.models.readable_data import require_readable
from kleiber.runs import DataShape, ParamCount

__all__ = ["ViTSpec"]


class ViTSpec(BlockSpec):
    """Shape of a vision Transformer: patches and a class token, learnt positions, pre-norm blocks.

    Source:
        Dosovitskiy et al. 2021, arXiv:2010.11929.

    Example:
        >>> spec = ViTSpec.of_size({"depth": 2, "width": 32}, ViTSpec.example_shape)
        >>> spec.patch_size, spec.num_patches
        (4, 64)
    """

    example_shape: ClassVar[DataShape] = DataShape(
        inputs="images", channels=3, height=32, width=32, num_outputs=10
    )
    """Data that the family is planned on when none is named."""

    family: Literal["vit"] = "vit"
    patch_size: Annotated[int, Field(strict=True, ge=1, le=10_000)]
    """Side of a patch [pixels]; an image that it does not divide is filled up with zeros at its right and lower edge."""

    @model_validator(mode="after")
    def _readable(self) -> Self:
        if not _is_readable(self.shape):
            raise ValueError(f"{_READS} Got {self.shape.inputs}")
        return self

    @classmethod
    def of_size(cls, size: Mapping[str, Any], shape: DataShape) -> Self:
        """Return the spec that a size dial gives.

        Args:
            size: `depth`, `width` or `params` (a target), and any field of the spec to override what follows.
            shape: Of the data.

        Raises:
            RecipeError: Data that the family cannot read, an unknown key, an absurd number, a target out of reach.
        """
        from kleiber.models.vit.dial import resolve_dial  # noqa: PLC0415 - the dial returns specs

        require_readable("vit", shape, ("images",))
        return cls.model_validate(resolve_dial(size, shape).model_dump())

    @property
    def grid(self) -> tuple[int, int]:
        """Patches down and across."""
        return (
            math.ceil((self.shape.height or 1) / self.patch_size),
            math.ceil((self.shape.width or 1) / self.patch_size),
        )

    @property
    def num_patches(self) -> int:
        """Tokens but for the class token."""
        return self.grid[0] * self.grid[1]

    @property
    def num_patch_values(self) -> int:
        """Numbers of a patch."""
        return (self.shape.channels or 0) * self.patch_size**2

    def hidden_shapes(self) -> list[tuple[int, int]]:
        """Return rows and columns of every matrix before the head: the patches', and those of the blocks."""
        return [(self.width, self.num_patch_values), *self.block.matrices * self.depth]

    def count(self) -> ParamCount:
        """Return the parameters by group; class token and positions are embeddings."""
        w = self.width
        return ParamCount(
            embedding=w + (self.num_patches + 1) * w,
            body=w * self.num_patch_values + w + self.depth * self.block.num_params + 2 * w,
            head=self.num_outputs * (w + 1),
        )

    def flops(
        self, batch: int, context: int | None = None, *, convention: FlopConvention = "causal"
    ) -> FlopCount:
        """Return the operations of one step on `batch` images.

        Forward, 2 per multiply-add: patches into the stream, every matrix of the blocks on each token, the two products of
        attention on each pair of tokens, and the head on each image. Backward is twice that, but for the gradient of the
        images.

        Args:
            batch: Images.
            context: Of no effect: an image is as long as it is.
            convention: Named only: every token sees every other.
        """
        del context
        patches = 2 * batch * self.num_patches * self.width * self.num_patch_values
        blocks = self.depth * self.block.forward_flops(batch, self.num_patches + 1)
        forward = patches + blocks + 2 * batch * self.width * self.num_outputs
        return FlopCount(forward=forward, backward=2 * forward - patches, convention=convention)


_READS = "vit reads images and gives one answer an image."


def _is_readable(shape: DataShape) -> bool:
    sizes = (shape.channels, shape.height, shape.width, shape.num_outputs)
    return shape.inputs == "images" and None not in sizes
