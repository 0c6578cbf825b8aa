"""The `dual` model: two towers, a projection of each, and how much their products count.

Legend: B samples, C channels, T tokens of a text, E features in which both are compared.
"""

from __future__ import annotations

import math
from typing import Self

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor, nn

from kleiber.models.dual.spec import DualSpec
from kleiber.models.dual.towers import ImageTower, TextTower
from kleiber.models.family import FamilyModule
from kleiber.models.groups import ParamGroups, groups_of

__all__ = ["MAX_LOG_SCALE", "Dual", "build"]

MAX_LOG_SCALE = math.log(100)
"""Of what products are multiplied by (Radford et al. 2021, arXiv:2103.00020, section 2.5)."""
_FIRST_LOG_SCALE = math.log(1 / 0.07)
_TABLE_STD = 0.02
_TABLES = ("images.class_token", "images.positions", "texts.table", "texts.positions")
_HEADS = ("image_projection.weight", "text_projection.weight")


class Dual(FamilyModule):
    """Two towers in fp32; their weights are those of torch until `init_weights_` or `load`."""

    def __init__(self, spec: DualSpec) -> None:
        super().__init__()
        self.spec = spec
        self.images = ImageTower(spec)
        self.texts = TextTower(spec)
        self.image_projection = nn.Linear(spec.width, spec.embedding_width, bias=False)
        self.text_projection = nn.Linear(spec.text_width, spec.embedding_width, bias=False)
        self.log_scale = nn.Parameter(torch.empty(()))

    def forward(self, images_BCHW: Tensor, tokens_BT: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return embeddings of images and of texts, [B, E] of unit length, and the scale of their products, at most 100."""
        scale = self.log_scale.clamp(max=MAX_LOG_SCALE).exp()
        return self.embed_images(images_BCHW), self.embed_texts(tokens_BT), scale

    def embed_images(self, images_BCHW: Tensor) -> Tensor:
        """Return embeddings of unit length, [B, E]."""
        return F.normalize(self.image_projection(self.images(images_BCHW)), dim=-1)

    def embed_texts(self, tokens_BT: Tensor) -> Tensor:
        """Return embeddings of unit length, [B, E]; texts are padded at the end."""
        return F.normalize(self.text_projection(self.texts(tokens_BT)), dim=-1)

    @torch.no_grad()
    def init_weights_(self, seed: int) -> Self:
        """Fill the weights: gains 1, biases 0, tables small, matrices with the variance 1 / fan-in.

        What a branch adds is scaled down by how many branches add to the stream, as in GPT-2.
        """
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if name == "log_scale":
                parameter.fill_(_FIRST_LOG_SCALE)
            elif name in _TABLES:
                parameter.normal_(0.0, _TABLE_STD, generator=generator)
            elif parameter.ndim == 1:
                parameter.fill_(float(name.endswith("norm.weight")))
            else:
                depth = self.spec.depth if name.startswith("images.") else self.spec.text_depth
                num_branches = 2 * depth if name.endswith(("attn_out.weight", "down.weight")) else 1
                std = (parameter[0].numel() * num_branches) ** -0.5
                parameter.normal_(0.0, std, generator=generator)
        return self

    def param_groups(self) -> ParamGroups:
        """Return the names of all parameters by how an optimizer treats them."""
        return groups_of(self, embedding=_TABLES, head=_HEADS, row_splits=self._row_splits)

    def _row_splits(self, name: str) -> tuple[int, ...] | None:
        width = self.spec.width if name.startswith("images.") else self.spec.text_width
        return (width,) * 3 if name.endswith("qkv.weight") else None


def build(spec: DualSpec, *, seed: int = 0) -> Dual:
    """Return a model with freshly initialized weights [fp32, CPU]; the same seed gives the same weights."""
    with torch.random.fork_rng(devices=[]):  # what torch's layers draw is drawn over
        module = Dual(spec)
    return module.init_weights_(seed)
