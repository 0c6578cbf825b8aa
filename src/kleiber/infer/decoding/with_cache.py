"""A language model as it answers when its keys and values are read from a cache.

Legend: B sequences, T tokens of each, V vocabulary.
"""

from __future__ import annotations

from torch import Tensor, nn

from kleiber.infer.decoding.cached_forward import cached_forward, cached_heads
from kleiber.models.family import FamilyModule
from kleiber.models.gpt.cache import KVCache, require_cache_bits

__all__ = ["WithCache"]


class WithCache(nn.Module):
    """Whole sequences in, the logits after each token out; what attention reads went through a cache.

    Quality measured on it is that of text written token by token: every token is attended to as the cache holds it.

    Args:
        module: A language model of the family gpt or hf.
        cache_bits: Of keys and values; None keeps them as computed.

    Raises:
        UsageError: The module does not go on from text, or bits that no cache has.
    """

    def __init__(self, module: FamilyModule, cache_bits: int | None) -> None:
        super().__init__()
        require_cache_bits(cache_bits)
        self.module = module
        self._heads = cached_heads(module)
        self._cache_bits = cache_bits

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Return the logits of the next token after each token, [B, T, V]."""
        B, T = tokens_BT.shape
        cache = KVCache(self._heads, B, max_tokens=T, cache_bits=self._cache_bits)
        return cached_forward(self.module, tokens_BT, cache)
