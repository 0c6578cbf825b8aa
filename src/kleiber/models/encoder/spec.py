"""The sizes of an `encoder` model and what follows from them, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from kleiber.cost.flops import FlopConvention, FlopCount
from kleiber.models.block_spec import BlockSpec
from kleiber.models.readable_data import require_readable
from kleiber.runs import DataShape, ParamCount

__all__ = ["EncoderSpec"]


class EncoderSpec(BlockSpec):
    """Shape of BERT: learnt positions, post-norm blocks in which every token sees every other, an answer from the first.

    Source:
        Devlin et al. 2019, arXiv:1810.04805.

    Example:
        >>> spec = EncoderSpec.of_size({"depth": 2, "width": 32}, EncoderSpec.example_shape)
        >>> spec.num_heads, spec.mlp_width, spec.count().head
        (2, 128, 66)
    """

    example_shape: ClassVar[DataShape] = DataShape(
        inputs="tokens", vocab_size=1024, context=128, num_outputs=2
    )
    """Data that the family is planned on when none is named."""

    family: Literal["encoder"] = "encoder"
    num_token_types: Annotated[int, Field(strict=True, ge=1, le=10_000)] = 1
    """Kinds of tokens in the layout's table of which we use the first: 2 in what was pretrained on pairs of sentences."""

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
        from kleiber.models.encoder.dial import resolve_dial  # noqa: PLC0415 - the dial returns specs

        require_readable("encoder", shape, ("tokens",))
        return cls.model_validate(resolve_dial(size, shape).model_dump())

    def hidden_shapes(self) -> list[tuple[int, int]]:
        """Return rows and columns of every matrix between embedding and head: of the blocks, and the pooler's."""
        return self.block.matrices * self.depth + [(self.width, self.width)]

    def count(self) -> ParamCount:
        """Return the parameters by group; equal to what the built module holds."""
        w = self.width
        rows = (self.shape.vocab_size or 0) + (self.shape.context or 0) + self.num_token_types
        return ParamCount(
            embedding=rows * w,
            body=2 * w + self.depth * self.block.num_params + w * w + w,
            head=self.num_outputs * (w + 1),
        )

    def flops(
        self, batch: int, context: int | None = None, *, convention: FlopConvention = "causal"
    ) -> FlopCount:
        """Return the operations of one step on `batch` texts of `context` tokens, padding included.

        Forward, 2 per multiply-add: every matrix of the blocks on each token, the two products of attention on each pair of
        tokens, and pooler and head on each text. Backward is twice that.

        Args:
            batch: Texts.
            context: Tokens of a text; None is the longest.
            convention: Named only: every token sees every other.
        """
        blocks = self.depth * self.block.forward_flops(batch, context or self.shape.context or 1)
        forward = blocks + 2 * batch * self.width * (self.width + self.num_outputs)
        return FlopCount(forward=forward, backward=2 * forward, convention=convention)


_READS = "encoder reads tokens and gives one answer a text."


def _is_readable(shape: DataShape) -> bool:
    return shape.inputs == "tokens" and None not in (shape.vocab_size, shape.context, shape.num_outputs)
