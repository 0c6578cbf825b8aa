"""The `vit` network.

Legend: B images, C channels, H height, X image width, P patches, T = P + 1 tokens, W width, O outputs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor, nn

from kleiber.models.family import FamilyModule
from kleiber.models.groups import ParamGroups, groups_of
from kleiber.models.initialization import seeded
from kleiber.models.transformer_block import EMBEDDING_STD, TransformerBlock, init_blocks_, row_splits_of
from kleiber.models.vit.spec import ViTSpec

__all__ = ["ViT", "build"]


class ViT(FamilyModule):
    """A Transformer over the patches of an image, in fp32."""

    def __init__(self, spec: ViTSpec) -> None:
        super().__init__()
        self.spec = spec
        w, patch = spec.width, spec.patch_size
        self.patches = nn.Conv2d(spec.shape.channels or 0, w, kernel_size=patch, stride=patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, w))
        self.positions = nn.Parameter(torch.zeros(1, spec.num_patches + 1, w))
        self.blocks = nn.ModuleList(
            TransformerBlock(
                w,
                spec.num_heads,
                spec.mlp_width,
                is_pre_norm=True,
                activation=spec.activation,
                dropout=spec.dropout,
                attention_dropout=spec.attention_dropout,
                norm_eps=spec.norm_eps,
            )
            for _ in range(spec.depth)
        )
        self.final_norm = nn.LayerNorm(w, eps=spec.norm_eps)
        self.head = nn.Linear(w, spec.num_outputs)

    def forward(self, images_BCHX: Tensor) -> Tensor:
        """Return the answers of each image, [B, O]."""
        patches_BPW = self.patches(self._filled_up(images_BCHX)).flatten(2).transpose(1, 2)
        class_B1W = self.class_token.expand(len(images_BCHX), -1, -1)
        x_BTW = torch.cat([class_B1W, patches_BPW], 1) + self.positions
        x_BTW = F.dropout(x_BTW, self.spec.dropout, self.training)
        for block in self.blocks:
            x_BTW = block(x_BTW)
        answers_BO: Tensor = self.head(self.final_norm(x_BTW[:, 0]))
        return answers_BO

    def _filled_up(self, images_BCHX: Tensor) -> Tensor:
        """Return images that the patch divides: the mean of normalized images, 0, at the right and lower edge."""
        rows, columns = (
            sides * self.spec.patch_size - size
            for sides, size in zip(self.spec.grid, images_BCHX.shape[-2:], strict=True)
        )
        return F.pad(images_BCHX, (0, columns, 0, rows)) if rows or columns else images_BCHX

    def param_groups(self) -> ParamGroups:
        """Return the names of all parameters by how an optimizer treats them."""
        return groups_of(
            self,
            embedding=["class_token", "positions"],
            head=["head.weight"],
            row_splits=row_splits_of(self.spec.width),
        )


def build(spec: ViTSpec, *, seed: int = 0) -> ViT:
    """Return a network with freshly initialized weights [fp32, CPU]; the same seed gives the same weights."""
    with seeded(seed):
        module = ViT(spec)
        for table in (module.class_token, module.positions):
            nn.init.normal_(table, 0.0, EMBEDDING_STD)
        init_blocks_(module.blocks, spec.init)
    return module
