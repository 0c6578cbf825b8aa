"""What a Transformer's block with biases holds and does, without torch: `encoder` and `vit` are made of them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BlockSizes"]


@dataclass(frozen=True)
class BlockSizes:
    """Attention and an MLP on a residual stream, a layer norm at each, a bias on every product.

    Example:
        >>> BlockSizes(width=768, mlp_width=3072).num_params  # of BERT base and ViT base
        7087872
    """

    width: int
    mlp_width: int

    @property
    def num_weights(self) -> int:
        """Weights that multiply activations: q, k, v, output, up, down."""
        return 4 * self.width * self.width + 2 * self.width * self.mlp_width

    @property
    def num_params(self) -> int:
        """Weights, biases and two norms."""
        return self.num_weights + (5 * self.width + self.mlp_width) + 2 * 2 * self.width

    @property
    def matrices(self) -> list[tuple[int, int]]:
        """Rows and columns of q, k, v, output, up, down."""
        w, m = self.width, self.mlp_width
        return [(w, w)] * 4 + [(m, w), (w, m)]

    def forward_flops(self, num_sequences: int, num_tokens: int) -> int:
        """Return the operations on so many sequences of so many tokens: products with weights, scores and values.

        Every token sees every other, so both conventions count the whole square.
        """
        square = 4 * num_tokens * num_tokens * self.width
        return num_sequences * (2 * num_tokens * self.num_weights + square)
