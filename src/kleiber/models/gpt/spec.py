"""The sizes of a `gpt` model and what follows from them, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from kleiber.cost.flops import FlopConvention, FlopCount
from kleiber.errors import RecipeError
from kleiber.runs import DataShape, Document, ParamCount

__all__ = ["Depth", "GPTSpec", "Heads", "MLPWidth", "Width"]

Depth = Annotated[int, Field(strict=True, ge=1, le=10_000)]
Width = Annotated[int, Field(strict=True, ge=2, le=1_000_000)]
Heads = Annotated[int, Field(strict=True, ge=1, le=10_000)]
MLPWidth = Annotated[int, Field(strict=True, ge=1, le=10_000_000)]


class GPTSpec(Document):
    """Shape of a decoder: pre-norm RMSNorm, RoPE, QK-norm, grouped-query attention, SwiGLU, no biases.

    Example:
        >>> spec = GPTSpec.from_dial({"depth": 2, "width": 32}, vocab_size=1024, context=128)
        >>> spec.num_heads, spec.mlp_width, spec.count().total
        (2, 96, 59616)
    """

    example_shape: ClassVar[DataShape] = DataShape(inputs="tokens", vocab_size=1024, context=128)
    """Data that the family is planned on when none is named."""

    family: Literal["gpt"] = "gpt"
    depth: Depth
    """Blocks."""
    width: Width
    """Features of the residual stream."""
    num_heads: Heads
    """Query heads."""
    num_kv_heads: Heads
    """Key and value heads; divides `num_heads`."""
    head_dim: Width
    """Features of a head; even, for the rotation pairs them."""
    mlp_width: MLPWidth
    """Features between gate and down projection."""
    vocab_size: Annotated[int, Field(strict=True, ge=2, le=10_000_000)]
    context: Annotated[int, Field(strict=True, ge=1, le=10_000_000)]
    """Longest sequence [tokens]."""
    is_tied: bool = Field(default=True, strict=True)
    """The output projection is the embedding table."""
    rope_theta: float = Field(default=10_000.0, gt=1, lt=1e12)
    """Base of the rotation's wavelengths."""
    norm_eps: float = Field(default=1e-6, gt=0, lt=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_kv_heads {self.num_kv_heads} must divide num_heads {self.num_heads}")
        if self.head_dim % 2:
            raise ValueError(f"head_dim {self.head_dim} must be even, for RoPE turns pairs of features")
        return self

    @classmethod
    def from_dial(cls, size: Mapping[str, Any], vocab_size: int, context: int) -> Self:
        """Return the spec that a size dial gives.

        Args:
            size: `depth`, `width` or `params` (a target), and any field of the spec to override what follows.
            vocab_size: Entries of the tokenizer.
            context: Longest sequence [tokens].

        Raises:
            RecipeError: An unknown key, an absurd number, parts that do not divide, a target out of reach.
        """
        from kleiber.models.gpt.dial import resolve_dial  # noqa: PLC0415 - the dial returns specs

        return cls.model_validate(resolve_dial(size, vocab_size, context).model_dump())

    @classmethod
    def of_size(cls, size: Mapping[str, Any], shape: DataShape) -> Self:
        """Return the spec that a size dial gives for text of a shape; as `from_dial` otherwise.

        Raises:
            RecipeError: The shape is not of text that is modelled.
        """
        if shape.vocab_size is None or shape.context is None or shape.inputs != "tokens" or shape.num_outputs:
            raise RecipeError(
                "gpt models text, token by token.",
                got=shape.inputs,
                hint="--set model.family=encoder   to classify texts",
            )
        return cls.from_dial(size, shape.vocab_size, shape.context)

    @property
    def attn_width(self) -> int:
        """Features of all query heads."""
        return self.num_heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Features of all key heads, and of all value heads."""
        return self.num_kv_heads * self.head_dim

    def hidden_shapes(self) -> list[tuple[int, int]]:
        """Return rows and columns of every matrix between embedding and head: q, k, v, output, gate, up, down."""
        w, m = self.width, self.mlp_width
        a_block = [(self.attn_width, w), (self.kv_width, w), (self.kv_width, w), (w, self.attn_width)]
        return [*a_block, (m, w), (m, w), (w, m)] * self.depth

    def count(self) -> ParamCount:
        """Return the parameters by group; equal to what the built module holds."""
        norms = self.depth * (2 * self.width + 2 * self.head_dim) + self.width
        table = self.vocab_size * self.width
        return ParamCount(
            embedding=table,
            body=self._num_hidden() + norms,
            head=0 if self.is_tied else table,
            is_tied=self.is_tied,
        )

    def flops(
        self, batch: int, context: int | None = None, *, convention: FlopConvention = "causal"
    ) -> FlopCount:
        """Return the operations of one step on `batch` sequences of `context` tokens.

        Forward, 2 per multiply-add: every matrix of the blocks and the head on each token, and the two products
        of attention (scores, and scores with values) on each pair of tokens. Backward is twice that: each
        product has a gradient for both of its factors.

        Args:
            batch: Sequences.
            context: Tokens of a sequence; None is the longest.
            convention: `causal` counts half of the attention square, `full` all of it.

        Source:
            Hoffmann et al. 2022, arXiv:2203.15556, appendix F; the embedding look-up is left out here.
        """
        context = context or self.context
        weights = self._num_hidden() + self.vocab_size * self.width
        square = 4 * self.depth * self.attn_width * context * context
        attention = square if convention == "full" else square // 2
        forward = batch * (2 * weights * context + attention)
        return FlopCount(forward=forward, backward=2 * forward, convention=convention)

    def _num_hidden(self) -> int:
        attention = self.width * 2 * (self.attn_width + self.kv_width)
        return self.depth * (attention + 3 * self.width * self.mlp_width)
