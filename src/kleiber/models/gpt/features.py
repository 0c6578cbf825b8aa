"""What a `gpt` may have, or do without, beside transformers' Qwen3 layout; every default is that layout."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from kleiber.runs import Document

__all__ = ["Features"]


class Features(Document):
    """Changes of the layout, and the weights at the start.

    A model with any of the changes is saved in a layout of our own, which nothing else takes for Qwen3.

    Example:
        >>> Features(mlp="relu2", softcap=15.0, init="standard").beyond_qwen3
        ('mlp=relu2', 'softcap=15.0')
    """

    positions: Literal["rope", "learned"] = "rope"
    """Queries and keys are turned by their positions (Su et al. 2021), or a learned vector is added to each token's embedding."""
    has_qk_norm: bool = Field(default=True, strict=True)
    """Heads of queries and keys are normalized, with a gain of their own."""
    mlp: Literal["swiglu", "relu2", "gelu"] = "swiglu"
    """`swiglu` is gated (Shazeer 2020); `relu2`, a squared ReLU (So et al. 2021, arXiv:2109.08668), and `gelu` are not."""
    softcap: float = Field(default=0.0, ge=0, le=1000)
    """Logits are held within this by a tanh (Gemma 2, arXiv:2408.00118); 0 leaves them."""
    has_value_residual: bool = Field(default=False, strict=True)
    """Values of a block are mixed with those of the first by two learned numbers (Zhou et al. 2024, arXiv:2410.17897)."""
    has_x0_skip: bool = Field(default=False, strict=True)
    """What enters a block is mixed with the embeddings by two learned numbers."""
    has_embedding_norm: bool = Field(default=False, strict=True)
    """Embeddings are normalized, without a gain, before the first block."""
    value_embeddings: int = Field(default=0, strict=True, ge=0, le=10_000)
    """Blocks with a table of their own that is looked up by token and added to the values, with a learned gate for each head:
    every other one from the last on."""
    init: Literal["zero_out", "small_out", "standard"] = "zero_out"
    """Weights at the start. `zero_out`: projections back into the residual stream are 0, other matrices have variance 1 / fan-in;
    `small_out`: those projections too, divided by sqrt(2 x depth); `standard`: deviation 0.02, and 0.02 / sqrt(2 x depth), as
    in GPT-2."""

    in_any_layout: ClassVar[frozenset[str]] = frozenset({"init"})
    """Fields that say nothing of a trained model."""

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Left out where they change nothing, so that specs and recipes keep the hash they had before there were such fields.
        raw: dict[str, Any] = handler(self)
        defaults = Features.model_fields
        return {
            key: value for key, value in raw.items() if key not in defaults or value != defaults[key].default
        }

    @property
    def beyond_qwen3(self) -> tuple[str, ...]:
        """What Qwen3's layout cannot hold, as KEY=VALUE; nothing where it holds all."""
        return tuple(
            f"{key}={_shown(getattr(self, key))}"
            for key, field in Features.model_fields.items()
            if key not in self.in_any_layout and getattr(self, key) != field.default
        )

    @property
    def is_gated(self) -> bool:
        """Whether the MLP has a gate beside what it lets through."""
        return self.mlp == "swiglu"


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
