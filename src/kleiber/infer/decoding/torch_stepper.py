"""Decoding in eager PyTorch over a preallocated cache: the reference.

Legend: B sequences, T tokens of each, L of them whose logits are wanted, V vocabulary.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from kleiber.infer.decoding.cached_forward import cached_forward, cached_heads
from kleiber.infer.decoding.decoder import Tokens
from kleiber.infer.engines.torch_predictor import TorchPredictor
from kleiber.models.family import FamilyModule
from kleiber.models.gpt.cache import KVCache, require_cache_bits

__all__ = ["TorchStepper"]


class TorchStepper:
    """A language model and its cache.

    Args:
        module: fp32, of the family gpt or hf.
        cache_bits: Of keys and values; None keeps them as computed.
        num_threads: Of torch, during a step.

    Raises:
        UsageError: The module does not go on from text, or bits that no cache has.
    """

    engine = "torch"
    notes: tuple[str, ...] = ()

    def __init__(self, module: FamilyModule, cache_bits: int | None, num_threads: int) -> None:
        require_cache_bits(cache_bits)
        self.precision = "fp32" if cache_bits is None else f"fp32, int{cache_bits} cache"
        self._heads = cached_heads(module)
        self._cache_bits = cache_bits
        self._cached = _Cached(module)
        self._predictor = TorchPredictor(self._cached, num_threads)

    def start(self, batch: int) -> None:
        """Forget what was read; make room for `batch` sequences."""
        self._cached.cache = KVCache(self._heads, batch, cache_bits=self._cache_bits)

    def step(self, tokens_BT: Tokens, num_kept: int) -> npt.NDArray[np.float32]:
        """Read more tokens of each sequence; return the logits after each of the last `num_kept`, [B, L, V]."""
        T = tokens_BT.shape[1]
        logits_BLV: npt.NDArray[np.float32] = self._predictor(tokens_BT, np.arange(T - num_kept, T))
        return logits_BLV

    def rewind(self, length: int) -> None:
        """Forget all tokens after the first `length`."""
        self._cached.cache.length = length


class _Cached(nn.Module):
    """Tokens in, the logits after some of them out."""

    cache: KVCache

    def __init__(self, module: FamilyModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, tokens_BT: Tensor, kept_L: Tensor) -> Tensor:
        return cached_forward(self.module, tokens_BT, self.cache, kept_L)
