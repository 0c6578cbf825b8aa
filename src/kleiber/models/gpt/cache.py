"""Keys and values of the tokens that a decoder has read.

Legend: L blocks, B sequences, T new tokens, N query heads, K key/value heads, S tokens the cache holds room for, H features of
a head.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor

from kleiber.errors import UsageError
from kleiber.models.gpt.int8_heads import decoded_heads, int8_heads

__all__ = ["Cache", "CachedHeads", "KVCache", "require_cache_bits"]


class CachedHeads(Protocol):
    """Sizes of a decoder that its cache follows; a `GPTSpec` has them."""

    @property
    def depth(self) -> int:
        """Blocks."""
        ...

    @property
    def num_kv_heads(self) -> int:
        """Key and value heads."""
        ...

    @property
    def head_dim(self) -> int:
        """Features of a head."""
        ...

    @property
    def context(self) -> int:
        """Longest sequence [tokens]."""
        ...


class Cache(Protocol):
    """What a decoder asks of the place where its keys and values are."""

    @property
    def rotates(self) -> bool:
        """Whether it turns queries and keys by their positions itself."""
        ...

    @property
    def length(self) -> int | Tensor:
        """Tokens that were read before; in a graph they come with its inputs. Of sequences of different lengths it is [B, 1]."""
        ...

    def require_room(self, num_tokens: int) -> None:
        """Refuse to read `num_tokens` more tokens than there is room for."""
        ...

    def attend(self, block: int, q_BTNH: Tensor, k_BTKH: Tensor, v_BTKH: Tensor) -> Tensor:
        """Store the keys and values of one block's new tokens; return causal attention over all tokens, [B, N, T, H]."""
        ...

    def advance(self, num_tokens: int) -> None:
        """Count `num_tokens` as read, after every block has stored them."""
        ...


class KVCache:
    """Preallocated keys and values; `length` tokens of it are filled.

    Args:
        spec: The decoder.
        batch: Sequences.
        max_tokens: Room; the spec's context where it is None.
        dtype: Of keys and values.
        device: Where they are.
        cache_bits: 8 stores each head of each token as int8 with a scale of its own; None stores it as computed.

    Raises:
        UsageError: Bits that no cache has.
    """

    rotates = False

    def __init__(
        self,
        spec: CachedHeads,
        batch: int,
        *,
        max_tokens: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        cache_bits: int | None = None,
    ) -> None:
        require_cache_bits(cache_bits)
        self.max_tokens = min(max_tokens or spec.context, spec.context)
        shape = (spec.depth, batch, spec.num_kv_heads, self.max_tokens, spec.head_dim)
        kind = _Plain if cache_bits is None else _Int8
        self._keys, self._values = kind(shape, dtype, device), kind(shape, dtype, device)
        self.length = 0

    @property
    def keys(self) -> Tensor:
        """All room for keys, filled or not, [L, B, K, S, H]: of a cache that keeps them as computed."""
        return _plain(self._keys)

    @property
    def values(self) -> Tensor:
        """All room for values, filled or not, [L, B, K, S, H]: of a cache that keeps them as computed."""
        return _plain(self._values)

    @property
    def num_bytes(self) -> int:
        """Bytes that the cache holds, filled or not."""
        return self._keys.num_bytes + self._values.num_bytes

    def require_room(self, num_tokens: int) -> None:
        """Refuse to read `num_tokens` more tokens than there is room for.

        Raises:
            UsageError: The cache is full.
        """
        if self.length + num_tokens > self.max_tokens:
            raise UsageError(
                f"the model reads at most {self.max_tokens} tokens, prompt and answer together.",
                got=self.length + num_tokens,
                hint="a shorter prompt, or fewer tokens to generate",
            )

    def attend(self, block: int, q_BTNH: Tensor, k_BTKH: Tensor, v_BTKH: Tensor) -> Tensor:
        """Store the keys and values of one block's new tokens; return causal attention over all tokens, [B, N, T, H]."""
        start, T = self.length, q_BTNH.shape[1]
        keys_BKSH = self._keys.extend(block, start, k_BTKH.transpose(1, 2))
        values_BKSH = self._values.extend(block, start, v_BTKH.transpose(1, 2))
        mask = None
        if start and T > 1:
            mask = torch.ones(T, start + T, dtype=torch.bool, device=q_BTNH.device).tril(start)
        return F.scaled_dot_product_attention(
            q_BTNH.transpose(1, 2),
            keys_BKSH,
            values_BKSH,
            attn_mask=mask,
            is_causal=not start,
            enable_gqa=q_BTNH.shape[2] != k_BTKH.shape[2],
        )

    def advance(self, num_tokens: int) -> None:
        """Count `num_tokens` as read, after every block has stored them."""
        self.length += num_tokens


def require_cache_bits(cache_bits: int | None) -> None:
    """Refuse bits that no cache has.

    Raises:
        UsageError: Neither None nor 8.
    """
    if cache_bits not in (None, 8):
        raise UsageError(
            "a cache keeps keys and values in 8 bits, or as they are computed.",
            got=cache_bits,
            hint="cache_bits: 8",
        )


class _Plain:
    """Numbers as they are computed."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device | str) -> None:
        self.x_LBKSH = torch.zeros(shape, dtype=dtype, device=device)

    @property
    def num_bytes(self) -> int:
        return self.x_LBKSH.nbytes

    def extend(self, block: int, start: int, x_BKTH: Tensor) -> Tensor:
        """Store what comes at `start`; return all up to its end, [B, K, S, H]."""
        end = start + x_BKTH.shape[2]
        self.x_LBKSH[block, :, :, start:end] = x_BKTH
        return self.x_LBKSH[block, :, :, :end]


def _plain(kept: _Plain | _Int8) -> Tensor:
    if not isinstance(kept, _Plain):
        raise TypeError("a cache in 8 bits holds codes")
    return kept.x_LBKSH


class _Int8:
    """A quarter of the bytes of fp32, and a scale for each head of each token; what is read is what was stored."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device | str) -> None:
        self._codes_LBKSH = torch.zeros(shape, dtype=torch.int8, device=device)
        self._scale_LBKS1 = torch.zeros((*shape[:-1], 1), dtype=dtype, device=device)

    @property
    def num_bytes(self) -> int:
        return self._codes_LBKSH.nbytes + self._scale_LBKS1.nbytes

    def extend(self, block: int, start: int, x_BKTH: Tensor) -> Tensor:
        """Store what comes at `start`; return all up to its end, [B, K, S, H]."""
        end = start + x_BKTH.shape[2]
        codes, scale = int8_heads(x_BKTH)
        self._codes_LBKSH[block, :, :, start:end] = codes
        self._scale_LBKS1[block, :, :, start:end] = scale
        return decoded_heads(self._codes_LBKSH[block, :, :, :end], self._scale_LBKS1[block, :, :, :end])
