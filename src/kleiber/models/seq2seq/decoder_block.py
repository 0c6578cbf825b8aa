"""The block that writes a target: a token sees those before it, and all of the source.

Legend: B pairs, S tokens of the source, T tokens of the target, W width, N heads, H features of a head.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor, nn

from kleiber.models.seq2seq.spec import Seq2SeqSpec
from kleiber.models.transformer_block import TransformerBlock

__all__ = ["NORM_EPS", "DecoderBlock", "Memory", "TargetCache"]

NORM_EPS = 1e-5
"""Added to variances, as in the layouts that the family is written in."""

_KeysValues = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Memory:
    """A source as the decoder sees it."""

    keys_values: tuple[_KeysValues, ...]
    """Of each block of the decoder, [B, N, S, H]."""
    mask: Tensor
    """Which tokens are no padding, [B, 1, 1, S]."""

    def repeated(self, times: int) -> Memory:
        """Return every pair `times` times, one after the other."""
        return Memory(
            tuple(
                (k.repeat_interleave(times, 0), v.repeat_interleave(times, 0)) for k, v in self.keys_values
            ),
            self.mask.repeat_interleave(times, 0),
        )


@dataclass
class TargetCache:
    """Keys and values of the target's tokens that were read."""

    keys_values: dict[int, _KeysValues] = field(default_factory=dict)
    """By the decoder's block, [B, N, T, H]."""

    @property
    def length(self) -> int:
        """Tokens that were read."""
        return self.keys_values[0][0].shape[2] if self.keys_values else 0

    def extend(self, block: int, keys: Tensor, values: Tensor) -> _KeysValues:
        """Add the keys and values of new tokens; return those of all."""
        if block in self.keys_values:
            old_keys, old_values = self.keys_values[block]
            keys, values = torch.cat((old_keys, keys), 2), torch.cat((old_values, values), 2)
        self.keys_values[block] = (keys, values)
        return keys, values

    def select(self, rows: Tensor) -> None:
        """Go on with these targets, in this order."""
        for block, (keys, values) in self.keys_values.items():
            self.keys_values[block] = (keys.index_select(0, rows), values.index_select(0, rows))


class DecoderBlock(TransformerBlock):
    """Causal attention, attention to the source and an MLP, each added to the residual stream."""

    def __init__(self, spec: Seq2SeqSpec) -> None:
        super().__init__(
            spec.width,
            spec.num_heads,
            spec.mlp_width,
            is_pre_norm=spec.is_pre_norm,
            activation=spec.activation,
            dropout=spec.dropout,
            norm_eps=NORM_EPS,
        )
        w = spec.width
        self.cross_q = nn.Linear(w, w)
        self.cross_kv = nn.Linear(w, 2 * w)
        self.cross_out = nn.Linear(w, w)
        self.cross_norm = nn.LayerNorm(w, eps=NORM_EPS)

    def source_keys_values(self, source_BSW: Tensor) -> _KeysValues:
        """Return what this block looks up in an encoded source, [B, N, S, H] each."""
        k, v = self.cross_kv(source_BSW).chunk(2, -1)
        return self._split_heads(k), self._split_heads(v)

    def decode(
        self,
        x_BTW: Tensor,
        source: _KeysValues,
        mask_B11S: Tensor,
        cache: tuple[TargetCache, int] | None = None,
    ) -> Tensor:
        """Return the residual stream after this block, [B, T, W].

        Args:
            x_BTW: The stream before it.
            source: Of `source_keys_values`.
            mask_B11S: Which tokens of the source are no padding.
            cache: What was read before, and the number of this block.
        """
        if self.is_pre_norm:
            x_BTW = x_BTW + self._attend_before(self.attn_norm(x_BTW), cache)
            x_BTW = x_BTW + self._attend_to_source(self.cross_norm(x_BTW), source, mask_B11S)
            return x_BTW + self._mlp(self.mlp_norm(x_BTW))
        x_BTW = self.attn_norm(x_BTW + self._attend_before(x_BTW, cache))
        x_BTW = self.cross_norm(x_BTW + self._attend_to_source(x_BTW, source, mask_B11S))
        normed: Tensor = self.mlp_norm(x_BTW + self._mlp(x_BTW))
        return normed

    def _attend_before(self, x_BTW: Tensor, cache: tuple[TargetCache, int] | None) -> Tensor:
        q, keys, values = (self._split_heads(part) for part in self.qkv(x_BTW).chunk(3, -1))
        num_new = q.shape[2]
        if cache is not None:
            keys, values = cache[0].extend(cache[1], keys, values)
        num_read = keys.shape[2] - num_new
        mask = None
        if num_read and num_new > 1:
            mask = torch.ones(num_new, keys.shape[2], dtype=torch.bool, device=q.device).tril(num_read)
        # Padding stands at the end of a target, where no token sees it: causality is mask enough.
        y = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask, is_causal=not num_read)
        return self._drop(self.attn_out(_join_heads(y)))

    def _attend_to_source(self, x_BTW: Tensor, source: _KeysValues, mask_B11S: Tensor) -> Tensor:
        q = self._split_heads(self.cross_q(x_BTW))
        y = F.scaled_dot_product_attention(q, *source, attn_mask=mask_B11S)
        return self._drop(self.cross_out(_join_heads(y)))

    def _split_heads(self, x_BTW: Tensor) -> Tensor:
        B, T, W = x_BTW.shape
        return x_BTW.view(B, T, self.num_heads, W // self.num_heads).transpose(1, 2)


def _join_heads(y_BNTH: Tensor) -> Tensor:
    return y_BNTH.transpose(1, 2).flatten(2)
