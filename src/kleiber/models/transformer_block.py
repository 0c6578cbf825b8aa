"""A Transformer's block with biases, in which every token sees every other.

Legend: B sequences, T tokens, W width, N heads, H features of a head, M features of the MLP.
Small models on a CPU are bound by the number of operations, so query, key and value are one product.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor, nn

from kleiber.models.activation_functions import ACTIVATIONS
from kleiber.models.activations import ActivationName

__all__ = ["EMBEDDING_STD", "TransformerBlock", "init_blocks_", "row_splits_of"]

EMBEDDING_STD = 0.02
"""Standard deviation of embeddings at the start, as in BERT and ViT."""


class TransformerBlock(nn.Module):
    """Attention and an MLP, each added to the residual stream.

    Args:
        width: W.
        num_heads: N.
        mlp_width: M.
        is_pre_norm: Normalize what enters a branch (ViT), not the sum after it (BERT).
        activation: Of the MLP.
        dropout: Of what the branches add.
        attention_dropout: Of attention's weights.
        norm_eps: Added to variances.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        mlp_width: int,
        *,
        is_pre_norm: bool,
        activation: ActivationName = "gelu",
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        norm_eps: float = 1e-12,
    ) -> None:
        super().__init__()
        self.num_heads, self.is_pre_norm = num_heads, is_pre_norm
        self.activation = ACTIVATIONS[activation]
        self.dropout, self.attention_dropout = dropout, attention_dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.attn_out = nn.Linear(width, width)
        self.attn_norm = nn.LayerNorm(width, eps=norm_eps)
        self.up = nn.Linear(width, mlp_width)
        self.down = nn.Linear(mlp_width, width)
        self.mlp_norm = nn.LayerNorm(width, eps=norm_eps)

    def forward(self, x_BTW: Tensor, mask_B11T: Tensor | None = None) -> Tensor:
        """Return the residual stream after this block, [B, T, W].

        Args:
            x_BTW: The stream before it.
            mask_B11T: Which tokens may be seen; None is all.
        """
        if self.is_pre_norm:
            x_BTW = x_BTW + self._attend(self.attn_norm(x_BTW), mask_B11T)
            return x_BTW + self._mlp(self.mlp_norm(x_BTW))
        x_BTW = self.attn_norm(x_BTW + self._attend(x_BTW, mask_B11T))
        normed: Tensor = self.mlp_norm(x_BTW + self._mlp(x_BTW))
        return normed

    def _attend(self, x_BTW: Tensor, mask_B11T: Tensor | None) -> Tensor:
        B, T, W = x_BTW.shape
        q, k, v = self.qkv(x_BTW).view(B, T, 3, self.num_heads, W // self.num_heads).unbind(2)
        y_BNTH = F.scaled_dot_product_attention(
            q.transpose(1, 2),
            k.transpose(1, 2),
            v.transpose(1, 2),
            attn_mask=mask_B11T,
            dropout_p=self.attention_dropout if self.training else 0.0,
        )
        return self._drop(self.attn_out(y_BNTH.transpose(1, 2).reshape(B, T, W)))

    def _mlp(self, x_BTW: Tensor) -> Tensor:
        return self._drop(self.down(self.activation(self.up(x_BTW))))

    def _drop(self, x_BTW: Tensor) -> Tensor:
        return F.dropout(x_BTW, self.dropout, self.training)


def init_blocks_(blocks: nn.ModuleList, init: Literal["default", "xavier", "zero_residual"]) -> None:
    """Fill the matrices of blocks from torch's global generator, other than torch did when it made them.

    Args:
        blocks: Of `TransformerBlock`.
        init: `default` leaves them; `xavier` draws each matrix, query, key and value apart, by Glorot and Bengio 2010, biases
            0; `zero_residual` makes what ends a branch 0, so that every block starts as the identity but for norms.
    """
    for block in blocks:
        for name in ("qkv", "attn_out", "up", "down"):
            layer = block.get_submodule(name)
            weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
            if init == "zero_residual" and name in {"attn_out", "down"}:
                nn.init.zeros_(weight)
                nn.init.zeros_(bias)
            if init == "xavier":
                for matrix in weight.data.chunk(3 if name == "qkv" else 1):
                    nn.init.xavier_uniform_(matrix)
                nn.init.zeros_(bias)


def row_splits_of(width: int) -> Callable[[str], tuple[int, ...] | None]:
    """Return what `groups_of` asks: query, key and value are fused along their rows."""
    return lambda name: (width,) * 3 if name.endswith("qkv.weight") else None
