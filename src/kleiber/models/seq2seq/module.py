"""The `seq2seq` encoder-decoder.

Legend: B pairs, S tokens of the source, T tokens of the target, W width, V vocabulary.
"""

from __future__ import annotations

import math
from typing import Self

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor, nn

from kleiber.errors import UsageError
from kleiber.models.family import FamilyModule
from kleiber.models.groups import ParamGroups, groups_of
from kleiber.models.padding import is_token
from kleiber.models.seq2seq.decoder_block import NORM_EPS, DecoderBlock, Memory, TargetCache
from kleiber.models.seq2seq.spec import Seq2SeqSpec
from kleiber.models.transformer_block import TransformerBlock

__all__ = ["Seq2Seq", "build", "sinusoids"]

_NUM_FUSED = {"qkv": 3, "cross_kv": 2}


class Seq2Seq(FamilyModule):
    """An encoder-decoder Transformer in fp32; its weights are those of torch until `init_weights_` or `load`."""

    def __init__(self, spec: Seq2SeqSpec) -> None:
        super().__init__()
        self.spec = spec
        self.embedding = nn.Parameter(torch.empty(spec.vocab_size, spec.width))
        self.encoder = nn.ModuleList(_encoder_block(spec) for _ in range(spec.depth))
        self.decoder = nn.ModuleList(DecoderBlock(spec) for _ in range(spec.decoder_depth))
        if spec.is_pre_norm:
            self.encoder_norm = nn.LayerNorm(spec.width, eps=NORM_EPS)
            self.decoder_norm = nn.LayerNorm(spec.width, eps=NORM_EPS)
        self.register_buffer("positions", sinusoids(spec.max_positions, spec.width), persistent=False)

    def forward(self, source_BS: Tensor, target_BT: Tensor) -> Tensor:
        """Return the logits of the next token after each token of the target, [B, T, V].

        Args:
            source_BS: Token numbers, padded at the end.
            target_BT: Tokens that the decoder has read: PAD_ID, which starts every target, then the target's own.
        """
        return self.decode(target_BT, self.encode(source_BS))

    def encode(self, source_BS: Tensor) -> Memory:
        """Read sources, once for all tokens of their targets."""
        mask_B11S = is_token(source_BS)[:, None, None]
        x_BSW = self._embed(source_BS, 0)
        for block in self.encoder:
            x_BSW = block(x_BSW, mask_B11S)
        if self.spec.is_pre_norm:
            x_BSW = self.encoder_norm(x_BSW)
        return Memory(tuple(block.source_keys_values(x_BSW) for block in self._decoder_blocks), mask_B11S)

    def decode(self, target_BT: Tensor, memory: Memory, cache: TargetCache | None = None) -> Tensor:
        """Return the logits of the next token after each token of the target, [B, T, V].

        Args:
            target_BT: As `forward` takes it.
            memory: Of `encode`.
            cache: Holds the tokens that were read before; these follow them and are added to it.
        """
        x_BTW = self._embed(target_BT, cache.length if cache is not None else 0)
        for index, block in enumerate(self._decoder_blocks):
            slot = (cache, index) if cache is not None else None
            x_BTW = block.decode(x_BTW, memory.keys_values[index], memory.mask, slot)
        if self.spec.is_pre_norm:
            x_BTW = self.decoder_norm(x_BTW)
        return F.linear(x_BTW, self.embedding)

    @property
    def _decoder_blocks(self) -> list[DecoderBlock]:
        return [block for block in self.decoder if isinstance(block, DecoderBlock)]

    def _embed(self, tokens_BT: Tensor, start: int) -> Tensor:
        end = start + tokens_BT.shape[1]
        if end > self.spec.max_positions:
            raise UsageError(
                f"the model reads at most {self.spec.max_positions} tokens of a text, its start included.",
                got=end,
                hint="a shorter text, or fewer tokens to generate",
            )
        # The table is the head as well, whose entries are small; here they meet positions of size 1.
        x_BTW = F.embedding(tokens_BT, self.embedding) * math.sqrt(self.spec.width)
        return F.dropout(x_BTW + self.get_buffer("positions")[start:end], self.spec.dropout, self.training)

    @torch.no_grad()
    def init_weights_(self, seed: int) -> Self:
        """Fill the weights: biases and projections back into the residual stream 0, gains 1, the rest normal, variance 1 / fan-in.

        With zero output projections every block starts as the identity.
        """
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if name.endswith("norm.weight"):
                parameter.fill_(1.0)
            elif parameter.ndim == 1 or name.endswith(("_out.weight", "down.weight")):
                parameter.zero_()
            else:
                parameter.normal_(0.0, parameter.shape[1] ** -0.5, generator=generator)
        return self

    def param_groups(self) -> ParamGroups:
        """Return the names of all parameters by how an optimizer treats them."""
        return groups_of(self, embedding=("embedding",), row_splits=self._row_splits)

    def _row_splits(self, name: str) -> tuple[int, ...] | None:
        num_fused = _NUM_FUSED.get(name.split(".")[-2])
        return (self.spec.width,) * num_fused if num_fused else None


def build(spec: Seq2SeqSpec, *, seed: int = 0) -> Seq2Seq:
    """Return a model with freshly initialized weights [fp32, CPU]; the same seed gives the same weights."""
    with torch.random.fork_rng(devices=[]):  # what torch's layers draw is drawn over
        module = Seq2Seq(spec)
    return module.init_weights_(seed)


def sinusoids(num_positions: int, width: int) -> Tensor:
    """Return the features of positions, [num_positions, width]: all sines, then all cosines.

    Source:
        Vaswani et al. 2017, arXiv:1706.03762, section 3.5; halves instead of pairs as in Marian.

    Example:
        >>> [round(x, 4) for x in sinusoids(2, 4)[1].tolist()]  # sin 1, sin 0.01, cos 1, cos 0.01
        [0.8415, 0.01, 0.5403, 0.9999]
    """
    exponents = torch.arange(0, width, 2, dtype=torch.float64) / width
    positions = torch.arange(num_positions, dtype=torch.float64)
    angles = torch.outer(positions, 10_000.0**-exponents)
    return torch.cat((angles.sin(), angles.cos()), 1).float()


def _encoder_block(spec: Seq2SeqSpec) -> TransformerBlock:
    return TransformerBlock(
        spec.width,
        spec.num_heads,
        spec.mlp_width,
        is_pre_norm=spec.is_pre_norm,
        activation=spec.activation,
        dropout=spec.dropout,
        norm_eps=NORM_EPS,
    )
