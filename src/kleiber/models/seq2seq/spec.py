"""The sizes of a `seq2seq` model and what follows from them, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from kleiber.cost.flops import FlopConvention, FlopCount
from kleiber.errors import RecipeError
from kleiber.models.activations import ActivationName
from kleiber.models.block_sizes import BlockSizes
from kleiber.runs import DataShape, Document, ParamCount
from kleiber.runs.data_shape import PAD_ID

__all__ = ["Seq2SeqSpec"]

_Depth = Annotated[int, Field(strict=True, ge=1, le=1000)]
_Width = Annotated[int, Field(strict=True, ge=2, le=1_000_000)]


class Seq2SeqSpec(Document):
    """Shape of an encoder-decoder Transformer: sinusoidal positions, layer norms, biases, one tied table for both sides.

    Example:
        >>> shape = DataShape(inputs="pairs", vocab_size=1024, context=64)
        >>> spec = Seq2SeqSpec.of_size({"depth": 2, "width": 32}, shape)
        >>> spec.decoder_depth, spec.mlp_width, spec.count().total
        (2, 128, 92288)

    Source:
        Vaswani et al. 2017, arXiv:1706.03762.
    """

    example_shape: ClassVar[DataShape] = DataShape(inputs="pairs", vocab_size=1024, context=64)
    """Data that the family is planned on when none is named."""

    family: Literal["seq2seq"] = "seq2seq"
    shape: DataShape
    """Vocabulary of both sides; longest text of either."""
    depth: _Depth
    """Blocks that read the source."""
    decoder_depth: _Depth
    """Blocks that write the target."""
    width: _Width
    """Features of the residual streams."""
    num_heads: Annotated[int, Field(strict=True, ge=1, le=10_000)]
    """Of every attention."""
    mlp_width: Annotated[int, Field(strict=True, ge=1, le=10_000_000)]
    """Features inside the MLPs."""
    activation: ActivationName = "relu"
    """Of the MLPs."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Of embeddings and of what every branch adds."""
    is_pre_norm: bool = Field(default=True, strict=True)
    """Normalize what enters a branch (Pegasus), which needs no warm-up however deep; else the sum after it (Marian, and the paper)."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not _is_readable(self.shape):
            raise ValueError(f"{_READS} Got {self.shape.inputs}")
        if self.width % self.num_heads:
            raise ValueError(f"num_heads {self.num_heads} must divide width {self.width}")
        if self.width % 2:
            raise ValueError(f"width {self.width} must be even, for a position is half sines, half cosines")
        return self

    @classmethod
    def of_size(cls, size: Mapping[str, Any], shape: DataShape) -> Self:
        """Return the spec that a size dial gives for pairs of texts.

        Args:
            size: `depth`, `width` or `params` (a target), and any field of the spec to override what follows.
            shape: Of the data.

        Raises:
            RecipeError: An unknown key, an absurd number, sizes that do not fit together, or data that is not pairs.
        """
        from kleiber.models.seq2seq.dial import resolve_dial  # noqa: PLC0415 - the dial returns specs

        if not _is_readable(shape):
            raise RecipeError(
                _READS, got=shape.inputs, hint="--set data.source=pairs:PATH --set task.name=seq2seq"
            )
        if (shape.pad_id, shape.end_id) != (PAD_ID, PAD_ID):
            raise RecipeError(
                "seq2seq begins, ends and pads texts with token 0, as a tokenizer that is trained for it does; that of "
                f"data.tokenizer pads with {shape.pad_id} and ends with {shape.end_id}.",
                hint="--set data.tokenizer=null   or --set model.family=hf",
            )
        return cls.model_validate(resolve_dial(size, shape).model_dump())

    @property
    def vocab_size(self) -> int:
        """Entries of the table."""
        return self.shape.vocab_size or 0

    @property
    def max_positions(self) -> int:
        """Tokens that the decoder reads at most: a start token stands before a text of the longest length."""
        return (self.shape.context or 0) + 1

    def hidden_shapes(self) -> list[tuple[int, int]]:
        """Return rows and columns of every matrix of the blocks; a decoder's also attends to the source."""
        block, cross = self._block.matrices, [(self.width, self.width)] * 4
        return [*block * self.depth, *(block + cross) * self.decoder_depth]

    def count(self) -> ParamCount:
        """Return the parameters by group; equal to what the built module holds."""
        norm = 2 * self.width
        cross = 4 * self.width * self.width + 4 * self.width + norm
        blocks = (self.depth + self.decoder_depth) * self._block.num_params + self.decoder_depth * cross
        return ParamCount(
            embedding=self.vocab_size * self.width,
            body=blocks + (2 * norm if self.is_pre_norm else 0),
            head=0,
            is_tied=True,
        )

    def flops(
        self, batch: int, context: int | None = None, *, convention: FlopConvention = "causal"
    ) -> FlopCount:
        """Return the operations of one step on `batch` pairs whose two texts have `context` tokens each.

        Backward is twice forward: each product has a gradient for both of its factors.

        Args:
            batch: Pairs.
            context: Tokens that the encoder reads, and as many that the decoder does; None is the longest.
            convention: `causal` counts half of the square in which a target attends to itself, `full` all of it.
        """
        tokens = context or self.shape.context or 0
        square = 4 * tokens * tokens * self.width
        cross = 2 * tokens * 4 * self.width * self.width + square
        blocks = (self.depth + self.decoder_depth) * self._block.forward_flops(1, tokens)
        unseen = 0 if convention == "full" else self.decoder_depth * square // 2
        head = 2 * tokens * self.vocab_size * self.width
        forward = batch * (blocks + self.decoder_depth * cross - unseen + head)
        return FlopCount(forward=forward, backward=2 * forward, convention=convention)

    @property
    def _block(self) -> BlockSizes:
        return BlockSizes(self.width, self.mlp_width)


_READS = "seq2seq reads pairs of texts, a source and a target."


def _is_readable(shape: DataShape) -> bool:
    return shape.inputs == "pairs" and None not in (shape.vocab_size, shape.context)
