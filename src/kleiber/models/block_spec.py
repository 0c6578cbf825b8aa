"""What `encoder` and `vit` say alike: blocks in which every token sees every other, and one answer."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from kleiber.models.activations import ActivationName
from kleiber.models.block_sizes import BlockSizes
from kleiber.runs import DataShape, Document

__all__ = ["BlockSpec"]


class BlockSpec(Document):
    """Sizes of a stack of Transformer blocks with biases; a family adds what stands before and after it."""

    depth: Annotated[int, Field(strict=True, ge=1, le=10_000)]
    """Blocks."""
    width: Annotated[int, Field(strict=True, ge=2, le=1_000_000)]
    """Features of the residual stream."""
    num_heads: Annotated[int, Field(strict=True, ge=1, le=10_000)]
    """Heads of attention; divides `width`."""
    mlp_width: Annotated[int, Field(strict=True, ge=1, le=10_000_000)]
    """Features between up and down projection."""
    shape: DataShape
    """Of the data, with the answers of a sample."""
    activation: ActivationName = "gelu"
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Of the embeddings and of what each branch adds; of the encoder, of what its head reads as well."""
    attention_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Of attention's weights; above 0 torch has no fused attention on a CPU."""
    norm_eps: float = Field(default=1e-12, gt=0, lt=1)
    init: Literal["default", "xavier", "zero_residual"] = "default"
    """Of the matrices: torch's own; Glorot and Bengio 2010; torch's own with every residual branch ending in 0."""

    @model_validator(mode="after")
    def _whole_heads(self) -> Self:
        if self.width % self.num_heads:
            raise ValueError(f"num_heads {self.num_heads} must divide width {self.width}")
        return self

    @property
    def num_outputs(self) -> int:
        """Classes, or values to predict."""
        return self.shape.num_outputs or 0

    @property
    def block(self) -> BlockSizes:
        """Sizes of one block."""
        return BlockSizes(self.width, self.mlp_width)
