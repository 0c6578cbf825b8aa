"""The two towers of a `dual` model.

Legend: B samples, C channels, P patches, T tokens of a text with its end, W width of a tower, N heads, H features of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor, nn

from kleiber.errors import UsageError
from kleiber.models.dual.spec import DualSpec
from kleiber.models.transformer_block import TransformerBlock
from kleiber.runs.data_shape import PAD_ID

__all__ = ["NORM_EPS", "CausalBlock", "ImageTower", "TextTower"]

NORM_EPS = 1e-5
"""Added to variances, as in CLIP."""


class CausalBlock(TransformerBlock):
    """A block in which a token sees itself and those before it."""

    def _attend(self, x_BTW: Tensor, mask_B11T: Tensor | None) -> Tensor:
        if mask_B11T is not None:
            raise ValueError("padding stands at the end, where causality hides it")
        B, T, W = x_BTW.shape
        heads = self.qkv(x_BTW).view(B, T, 3, self.num_heads, W // self.num_heads)
        q, k, v = heads.transpose(1, 3).unbind(2)
        y_BNTH = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self._drop(self.attn_out(y_BNTH.transpose(1, 2).flatten(2)))


class ImageTower(nn.Module):
    """A vision Transformer that answers at its class token, [B, W]."""

    def __init__(self, spec: DualSpec) -> None:
        super().__init__()
        w, patch = spec.width, spec.patch_size
        self.class_token = nn.Parameter(torch.empty(w))
        self.patches = nn.Conv2d(spec.shape.channels or 0, w, patch, stride=patch, bias=False)
        self.positions = nn.Parameter(torch.empty(spec.num_patches + 1, w))
        self.first_norm = nn.LayerNorm(w, eps=NORM_EPS)
        self.blocks = _blocks(TransformerBlock, spec.depth, (w, spec.num_heads, spec.mlp_width), spec)
        self.last_norm = nn.LayerNorm(w, eps=NORM_EPS)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Return what the class token became."""
        patches_BPW = self.patches(images_BCHW).flatten(2).transpose(1, 2)
        first_B1W = self.class_token.expand(len(images_BCHW), 1, -1)
        x_BTW = self.first_norm(torch.cat((first_B1W, patches_BPW), 1) + self.positions)
        for block in self.blocks:
            x_BTW = block(x_BTW)
        normed: Tensor = self.last_norm(x_BTW[:, 0])
        return normed


class TextTower(nn.Module):
    """A causal Transformer that answers at the end of the text, [B, W]."""

    def __init__(self, spec: DualSpec) -> None:
        super().__init__()
        w = spec.text_width
        self.table = nn.Parameter(torch.empty(spec.shape.vocab_size or 0, w))
        self.positions = nn.Parameter(torch.empty(spec.max_tokens, w))
        self.blocks = _blocks(
            CausalBlock, spec.text_depth, (w, spec.text_num_heads, spec.text_mlp_width), spec
        )
        self.last_norm = nn.LayerNorm(w, eps=NORM_EPS)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Return what the end of each text became; PAD_ID is that end, and one is set after the last token."""
        tokens_BT = F.pad(tokens_BT, (0, 1), value=PAD_ID)
        T = tokens_BT.shape[1]
        if len(self.positions) < T:
            longest = len(self.positions) - 1
            raise UsageError(f"the model reads texts of at most {longest} tokens.", got=T - 1)
        x_BTW = F.embedding(tokens_BT, self.table) + self.positions[:T]
        for block in self.blocks:
            x_BTW = block(x_BTW)
        ends_B = (tokens_BT == PAD_ID).int().argmax(1)
        normed: Tensor = self.last_norm(x_BTW[torch.arange(len(ends_B), device=ends_B.device), ends_B])
        return normed


def _blocks(
    kind: type[TransformerBlock], depth: int, sizes: tuple[int, int, int], spec: DualSpec
) -> nn.ModuleList:
    """Return the blocks of a tower, of a width, so many heads and an MLP's width."""
    width, num_heads, mlp_width = sizes
    return nn.ModuleList(
        kind(
            width,
            num_heads,
            mlp_width,
            is_pre_norm=True,
            activation=spec.activation,
            dropout=spec.dropout,
            norm_eps=NORM_EPS,
        )
        for _ in range(depth)
    )
