"""The `encoder` network.

Legend: B texts, T tokens, W width, C outputs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor, nn

from kleiber.models.encoder.spec import EncoderSpec
from kleiber.models.family import FamilyModule
from kleiber.models.groups import ParamGroups, groups_of
from kleiber.models.initialization import seeded
from kleiber.models.padding import is_token
from kleiber.models.transformer_block import EMBEDDING_STD, TransformerBlock, init_blocks_, row_splits_of

__all__ = ["Encoder", "build"]


class Encoder(FamilyModule):
    """A bidirectional Transformer that gives answers to a text, in fp32."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.spec = spec
        w = spec.width
        self.tokens = nn.Embedding(spec.shape.vocab_size or 0, w)
        self.positions = nn.Embedding(spec.shape.context or 0, w)
        self.token_types = nn.Embedding(spec.num_token_types, w)
        self.embedding_norm = nn.LayerNorm(w, eps=spec.norm_eps)
        self.blocks = nn.ModuleList(
            TransformerBlock(
                w,
                spec.num_heads,
                spec.mlp_width,
                is_pre_norm=False,
                activation=spec.activation,
                dropout=spec.dropout,
                attention_dropout=spec.attention_dropout,
                norm_eps=spec.norm_eps,
            )
            for _ in range(spec.depth)
        )
        self.pooler = nn.Linear(w, w)
        self.head = nn.Linear(w, spec.num_outputs)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Return the answers of each text, [B, C].

        Args:
            tokens_BT: Token numbers, int64, padded at their ends.
        """
        x_BTW = self.states(tokens_BT)
        answers_BC: Tensor = self.head(self._drop(torch.tanh(self.pooler(x_BTW[:, 0]))))
        return answers_BC

    def states(self, tokens_BT: Tensor) -> Tensor:
        """Return the vectors of the tokens after the last block, [B, T, W]; those of padding say nothing."""
        # Positions and the one type are added up before they meet a batch.
        places_TW = self.positions.weight[: tokens_BT.shape[1]] + self.token_types.weight[0]
        x_BTW: Tensor = self._drop(self.embedding_norm(self.tokens(tokens_BT) + places_TW))
        mask_B11T = is_token(tokens_BT, self.spec.shape.pad_id)[:, None, None]
        for block in self.blocks:
            x_BTW = block(x_BTW, mask_B11T)
        return x_BTW

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.spec.dropout, self.training)

    def param_groups(self) -> ParamGroups:
        """Return the names of all parameters by how an optimizer treats them."""
        return groups_of(
            self,
            embedding=["tokens.weight", "positions.weight", "token_types.weight"],
            head=["head.weight"],
            row_splits=row_splits_of(self.spec.width),
        )


def build(spec: EncoderSpec, *, seed: int = 0) -> Encoder:
    """Return an encoder with freshly initialized weights [fp32, CPU]; the same seed gives the same weights."""
    with seeded(seed):
        module = Encoder(spec)
        for table in (module.tokens, module.positions, module.token_types):
            nn.init.normal_(table.weight, 0.0, EMBEDDING_STD)
        init_blocks_(module.blocks, spec.init)
    return module
