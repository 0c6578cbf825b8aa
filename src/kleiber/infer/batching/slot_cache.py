"""Keys and values of sequences of different lengths, each in a slot of its own.

Legend: B slots that read, T new tokens of each, N query heads, K key/value heads, S tokens a slot holds, H features of a head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor

from kleiber.infer.decoding.cached_forward import Heads

__all__ = ["SlotCache"]


class SlotCache:
    """A cache whose sequences begin and end at different times; of those that read, all read as many tokens.

    Args:
        heads: Sizes of the cache.
        num_slots: Sequences that it has room for.
    """

    rotates = False

    def __init__(self, heads: Heads, num_slots: int) -> None:
        shape = (heads.depth, num_slots, heads.num_kv_heads, heads.context, heads.head_dim)
        self._keys, self._values = torch.zeros(shape), torch.zeros(shape)
        self._lengths = torch.zeros(num_slots, dtype=torch.long)
        self._slots_B = torch.zeros(0, dtype=torch.long)

    @property
    def length(self) -> Tensor:
        """Tokens read before by each of the slots that read, [B, 1]."""
        return self._lengths[self._slots_B, None]

    def forget(self, slot: int) -> None:
        """Make a slot free for another sequence."""
        self._lengths[slot] = 0

    def choose(self, slots: Sequence[int]) -> None:
        """Say which slots read next: row b of what is read belongs to slot `slots[b]`."""
        self._slots_B = torch.tensor(slots)

    def require_room(self, num_tokens: int) -> None:
        """Whoever admits a sequence has checked that it fits."""

    def attend(self, block: int, q_BTNH: Tensor, k_BTKH: Tensor, v_BTKH: Tensor) -> Tensor:
        """Store the keys and values of one block's new tokens; return causal attention of each slot over its own, [B, N, T, H]."""
        T = q_BTNH.shape[1]
        places_BT = self.length + torch.arange(T)
        keys_BKSH = self._extended(self._keys[block], k_BTKH, places_BT)
        values_BKSH = self._extended(self._values[block], v_BTKH, places_BT)
        is_seen_B1TS = torch.arange(keys_BKSH.shape[2]) <= places_BT[:, None, :, None]
        return F.scaled_dot_product_attention(
            q_BTNH.transpose(1, 2),
            keys_BKSH,
            values_BKSH,
            attn_mask=is_seen_B1TS,
            enable_gqa=q_BTNH.shape[2] != k_BTKH.shape[2],
        )

    def _extended(self, cache: Tensor, new_BTKH: Tensor, places_BT: Tensor) -> Tensor:
        """Store what is new at its places; return what the slots hold up to the last of them, [B, K, S, H]."""
        cache[self._slots_B[:, None], :, places_BT] = new_BTKH
        return cache[self._slots_B, :, : int(places_BT.max()) + 1]

    def advance(self, num_tokens: int) -> None:
        """Count `num_tokens` as read by each of the slots that read."""
        self._lengths[self._slots_B] += num_tokens
