"""The repeated blocks of a `gpt`, as layouts and caches ask for them."""

from __future__ import annotations

from kleiber.cost.layouts import BlockShape
from kleiber.models.gpt.spec import GPTSpec

__all__ = ["block_shape"]


def block_shape(spec: GPTSpec) -> BlockShape:
    """Return what layouts must divide and what a cache keeps of each token.

    Example:
        >>> spec = GPTSpec.from_dial({"depth": 2, "width": 32}, vocab_size=1024, context=128)
        >>> block_shape(spec)
        BlockShape(depth=2, width=32, num_heads=2, num_kv_heads=2, head_dim=16, vocab_size=1024)
    """
    return BlockShape(
        depth=spec.depth,
        width=spec.width,
        num_heads=spec.num_heads,
        num_kv_heads=spec.num_kv_heads,
        head_dim=spec.head_dim,
        vocab_size=spec.vocab_size,
    )
