"""Keys and values of sequences of different lengths, each in a row of its own.

Legend: L blocks, R rows, B of them that read, T new tokens of each, N query heads, K key/value heads, S tokens a row holds,
H features of a head.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor

from kleiber.infer.decoding.cached_forward import Heads

__all__ = ["RowCache"]


class RowCache:
    """A cache whose sequences begin and end at different times; of those that read, neighbours, all read as many tokens.

    Args:
        heads: Sizes of the cache.
        num_rows: Sequences that it has room for.
    """

    rotates = False

    def __init__(self, heads: Heads, num_rows: int) -> None:
        shape = (heads.depth, num_rows, heads.num_kv_heads, heads.context, heads.head_dim)
        # Of NumPy: memory that nothing was written to yet takes none.
        self._keys_LRKSH, self._values_LRKSH = (
            torch.from_numpy(np.zeros(shape, np.float32)) for _ in range(2)
        )
        self._rows = slice(0, 0)
        self._length_B1 = torch.zeros(0, 1, dtype=torch.long)

    @property
    def length(self) -> Tensor:
        """Tokens read before by each of the rows that read, [B, 1]."""
        return self._length_B1

    def choose(self, first: int, num_read_B: Sequence[int]) -> None:
        """Say which rows read next: those from `first` on, which hold so many tokens."""
        self._rows = slice(first, first + len(num_read_B))
        self._length_B1 = torch.tensor(num_read_B)[:, None]

    def require_room(self, num_tokens: int) -> None:
        """Whoever admits a sequence has checked that it fits."""

    def advance(self, num_tokens: int) -> None:
        """Whoever chooses rows counts."""

    def attend(self, block: int, q_BTNH: Tensor, k_BTKH: Tensor, v_BTKH: Tensor) -> Tensor:
        """Store the keys and values of one block's new tokens; return causal attention of each row over its own, [B, N, T, H]."""
        T = q_BTNH.shape[1]
        places_BT = self._length_B1 + torch.arange(T)
        num_held = int(places_BT[:, -1].max()) + 1
        keys_BKSH = _extended(self._keys_LRKSH[block, self._rows], k_BTKH, places_BT, num_held)
        values_BKSH = _extended(self._values_LRKSH[block, self._rows], v_BTKH, places_BT, num_held)
        is_seen_B1TS = torch.arange(num_held) <= places_BT[:, None, :, None]
        return F.scaled_dot_product_attention(
            q_BTNH.transpose(1, 2),
            keys_BKSH,
            values_BKSH,
            attn_mask=is_seen_B1TS,
            enable_gqa=q_BTNH.shape[2] != k_BTKH.shape[2],
        )

    def copy(self, source: int, target: int, num_tokens: int) -> None:
        """Let a row hold the first `num_tokens` tokens of another."""
        for held_LRKSH in (self._keys_LRKSH, self._values_LRKSH):
            held_LRKSH[:, target, :, :num_tokens] = held_LRKSH[:, source, :, :num_tokens]

    def swap(self, row: int, other: int, num_tokens: int) -> None:
        """Let two rows hold each the first `num_tokens` tokens of the other."""
        for held_LRKSH in (self._keys_LRKSH, self._values_LRKSH):
            before_LKTH = held_LRKSH[:, row, :, :num_tokens].clone()
            held_LRKSH[:, row, :, :num_tokens] = held_LRKSH[:, other, :, :num_tokens]
            held_LRKSH[:, other, :, :num_tokens] = before_LKTH

    def clear(self) -> None:
        """Let no row hold anything: what is not finite would spread through weights of 0 to whoever attends beside it."""
        self._keys_LRKSH.zero_()
        self._values_LRKSH.zero_()


def _extended(held_BKSH: Tensor, new_BTKH: Tensor, places_BT: Tensor, num_held: int) -> Tensor:
    """Store what is new at its places; return what the rows hold up to the last of them, [B, K, S, H]."""
    if len(held_BKSH) == 1:
        start = int(places_BT[0, 0])
        held_BKSH[:, :, start : start + new_BTKH.shape[1]] = new_BTKH.transpose(1, 2)
    else:
        held_BKSH[torch.arange(len(held_BKSH))[:, None], :, places_BT] = new_BTKH
    return held_BKSH[:, :, :num_held]
