"""The sizes of a `dual` model and what follows from them, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from kleiber.cost.flops import FlopConvention, FlopCount
from kleiber.errors import RecipeError
from kleiber.models.activations import ActivationName
from kleiber.models.block_sizes import BlockSizes
from kleiber.runs import DataShape, Document, ParamCount

__all__ = ["DualSpec"]

_Depth = Annotated[int, Field(strict=True, ge=1, le=10_000)]
_Width = Annotated[int, Field(strict=True, ge=2, le=1_000_000)]
_Heads = Annotated[int, Field(strict=True, ge=1, le=10_000)]
_MLPWidth = Annotated[int, Field(strict=True, ge=1, le=10_000_000)]


class DualSpec(Document):
    """Shape of two towers: a vision Transformer, and a causal Transformer that answers at the end of the text.

    `depth`, `width`, `num_heads` and `mlp_width` are those of the image tower.

    Source:
        Radford et al. 2021, arXiv:2103.00020.

    Example:
        >>> spec = DualSpec.of_size({"depth": 2, "width": 32}, DualSpec.example_shape)
        >>> spec.patch_size, spec.text_width, spec.embedding_width, spec.count().head
        (4, 32, 32, 2048)
    """

    example_shape: ClassVar[DataShape] = DataShape(
        inputs="captions", vocab_size=1024, context=16, channels=3, height=32, width=32
    )
    """Data that the family is planned on when none is named."""

    family: Literal["dual"] = "dual"
    shape: DataShape
    """Square images, and the vocabulary and longest length of their texts."""
    depth: _Depth
    """Blocks that read the image."""
    width: _Width
    """Features of their residual stream."""
    num_heads: _Heads
    mlp_width: _MLPWidth
    """Features inside their MLPs."""
    text_depth: _Depth
    """Blocks that read the text."""
    text_width: _Width
    text_num_heads: _Heads
    text_mlp_width: _MLPWidth
    patch_size: Annotated[int, Field(strict=True, ge=1, le=10_000)]
    """Side of a patch [pixels]; divides that of the image."""
    embedding_width: _Width
    """Features in which images and texts are compared."""
    activation: ActivationName = "gelu"
    """Of the MLPs."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Of what every branch adds."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not _is_readable(self.shape):
            raise ValueError(f"{_READS} Got {self.shape.inputs}")
        if self.side % self.patch_size:
            raise ValueError(f"patch_size {self.patch_size} must divide the side {self.side} of the images")
        for name, num_heads, width in (
            ("num_heads", self.num_heads, self.width),
            ("text_num_heads", self.text_num_heads, self.text_width),
        ):
            if width % num_heads:
                raise ValueError(f"{name} {num_heads} must divide width {width}")
        return self

    @classmethod
    def of_size(cls, size: Mapping[str, Any], shape: DataShape) -> Self:
        """Return the spec that a size dial gives for images with a text each.

        Args:
            size: `depth`, `width` or `params` (a target), and any field of the spec to override what follows.
            shape: Of the data.

        Raises:
            RecipeError: An unknown key, an absurd number, sizes that do not fit together, or data that is not captions.
        """
        from kleiber.models.dual.dial import resolve_dial  # noqa: PLC0415 - the dial returns specs

        if not _is_readable(shape):
            is_oblong = shape.inputs == "captions"
            got = f"{shape.height} x {shape.width}" if is_oblong else shape.inputs
            hint = "--set data.image_size=32" if is_oblong else "--set task.name=contrastive"
            raise RecipeError(_READS, got=got, hint=hint)
        return cls.model_validate(resolve_dial(size, shape).model_dump())

    @property
    def side(self) -> int:
        """Of an image [pixels]."""
        return self.shape.height or 0

    @property
    def num_patches(self) -> int:
        """Of an image."""
        return (self.side // self.patch_size) ** 2

    @property
    def num_patch_values(self) -> int:
        """Numbers of a patch."""
        return (self.shape.channels or 0) * self.patch_size**2

    @property
    def max_tokens(self) -> int:
        """Tokens that the text tower reads: the longest text, and its end."""
        return (self.shape.context or 0) + 1

    def hidden_shapes(self) -> list[tuple[int, int]]:
        """Return rows and columns of every matrix before the projections: the patches', and those of the blocks."""
        patches = (self.width, self.num_patch_values)
        return [patches, *self._image.matrices * self.depth, *self._text.matrices * self.text_depth]

    def count(self) -> ParamCount:
        """Return the parameters by group; class token and positions are embeddings, the two projections the head."""
        images = self.width * (self.num_patches + 2)
        texts = self.text_width * ((self.shape.vocab_size or 0) + self.max_tokens)
        blocks = self.depth * self._image.num_params + self.text_depth * self._text.num_params
        norms = 2 * (2 * self.width + self.text_width)
        return ParamCount(
            embedding=images + texts,
            body=self.width * self.num_patch_values + blocks + norms + 1,  # the scale
            head=self.embedding_width * (self.width + self.text_width),
        )

    def flops(
        self, batch: int, context: int | None = None, *, convention: FlopConvention = "causal"
    ) -> FlopCount:
        """Return the operations of one step on `batch` images with a text of `context` tokens each.

        Forward, 2 per multiply-add: patches into the stream, the blocks of both towers, a projection of each. Backward is
        twice that, but for the gradient of the images. The comparison of all images with all texts is the loss's.

        Args:
            batch: Images.
            context: Tokens of a text, without its end; None is the longest.
            convention: `causal` counts half of the square in which a text attends to itself, `full` all of it.
        """
        tokens = self.max_tokens if context is None else context + 1
        patches = 2 * batch * self.num_patches * self.width * self.num_patch_values
        images = self.depth * self._image.forward_flops(batch, self.num_patches + 1)
        texts = self.text_depth * self._text.forward_flops(batch, tokens)
        if convention == "causal":
            texts -= self.text_depth * batch * 2 * tokens * tokens * self.text_width
        forward = patches + images + texts + 2 * batch * self.embedding_width * (self.width + self.text_width)
        return FlopCount(forward=forward, backward=2 * forward - patches, convention=convention)

    @property
    def _image(self) -> BlockSizes:
        return BlockSizes(self.width, self.mlp_width)

    @property
    def _text(self) -> BlockSizes:
        return BlockSizes(self.text_width, self.text_mlp_width)


_READS = "dual reads square images with a text each."


def _is_readable(shape: DataShape) -> bool:
    sizes = (shape.channels, shape.height, shape.width, shape.vocab_size, shape.context)
    return shape.inputs == "captions" and None not in sizes and shape.height == shape.width
