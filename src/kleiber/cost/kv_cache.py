"""Keys and values that a decoder keeps of the tokens it has read."""

from __future__ import annotations

from kleiber.cost.layouts import BlockShape

__all__ = ["kv_cache_bytes"]


def kv_cache_bytes(blocks: BlockShape, batch: int, num_tokens: int, *, value_bytes: int) -> int:
    """Return what keys and values of `num_tokens` tokens of each of `batch` sequences take [bytes].

    Args:
        blocks: The decoder.
        batch: Sequences.
        num_tokens: Of each.
        value_bytes: Of a key's or value's feature.

    Example:
        >>> llama_3_8b = BlockShape(depth=32, width=4096, num_heads=32, num_kv_heads=8, head_dim=128, vocab_size=128_256)
        >>> kv_cache_bytes(llama_3_8b, 1, 8192, value_bytes=2)  # 1 GiB
        1073741824
    """
    return 2 * blocks.depth * blocks.num_kv_heads * blocks.head_dim * batch * num_tokens * value_bytes
