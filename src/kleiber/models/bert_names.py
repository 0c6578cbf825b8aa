"""The names of a Transformer's blocks with biases as BERT has them: our fused matrices are apart there.

transformers' BERT, ViT and their kin differ in few names; a family gives those.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["Names", "block_names", "join", "split"]

Names = Mapping[str, tuple[str, ...]]
"""Of each of our tensors the name there, or the names of the parts along its rows, in order."""


def block_names(
    depth: int, prefix: str, *, attention: str, attn_norm: str, mlp_norm: str
) -> dict[str, tuple[str, ...]]:
    """Return the names of all tensors of the blocks.

    Args:
        depth: Blocks.
        prefix: Of a block there, up to its number.
        attention: What holds query, key and value.
        attn_norm: The norm of the attention branch.
        mlp_norm: The norm of the MLP branch.
    """
    layers = {
        "qkv": tuple(f"attention.{attention}.{part}" for part in ("query", "key", "value")),
        "attn_out": ("attention.output.dense",),
        "attn_norm": (attn_norm,),
        "up": ("intermediate.dense",),
        "down": ("output.dense",),
        "mlp_norm": (mlp_norm,),
    }
    return {
        f"blocks.{index}.{ours}.{kind}": tuple(f"{prefix}.{index}.{part}.{kind}" for part in theirs)
        for index in range(depth)
        for ours, theirs in layers.items()
        for kind in ("weight", "bias")
    }


def split(state: Mapping[str, Tensor], names: Names) -> dict[str, Tensor]:
    """Return our tensors under the names there, fused ones apart."""
    return {
        name: part
        for ours, theirs in names.items()
        for name, part in zip(theirs, state[ours].chunk(len(theirs)), strict=True)
    }


def join(found: Mapping[str, Tensor], names: Names) -> dict[str, Tensor]:
    """Return tensors from there under our names [fp32], the inverse of `split`."""
    return {ours: torch.cat([found[name].float() for name in theirs]) for ours, theirs in names.items()}
