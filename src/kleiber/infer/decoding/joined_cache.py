"""A cache in a graph that joins old keys and values with new ones: what engines find attention over a cache in.

Legend: B sequences, T new tokens, P tokens read before, S = P + T, N query heads, K key/value heads, H features of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor

__all__ = ["JoinedCache", "seen_before"]


def seen_before(num_tokens: Any, num_past: Any) -> Tensor:
    """Return which of all tokens each new one sees: what was read before, itself, and what stands between, [T, S] bool.

    Example:
        >>> seen_before(2, 1).int().tolist()
        [[1, 1, 0], [1, 1, 1]]
    """
    places_T, places_S = torch.arange(num_tokens) + num_past, torch.arange(num_past + num_tokens)
    is_seen_TS: Tensor = places_T[:, None] >= places_S[None]
    return is_seen_TS


class JoinedCache:
    """Attention over old and new keys and values, joined.

    Args:
        past: Keys (even) and values (odd) of each block, [B, K, P, H].
        length: Tokens read before, as the model is told them for its positions.
        is_seen: Which of all tokens a new one sees, for every head, [..., T, S] bool.
    """

    rotates = False

    def __init__(self, past: Sequence[Tensor], length: Any, is_seen: Tensor) -> None:
        self.length = length
        self.present: list[Tensor] = []
        """Old and new, joined, in the order of `past`."""
        self._past = past
        self._is_seen = is_seen

    def require_room(self, num_tokens: int) -> None:
        """Whoever runs the graph has checked."""

    def advance(self, num_tokens: int) -> None:
        """Whoever runs the graph counts."""

    def attend(self, block: int, q_BTNH: Tensor, k_BTKH: Tensor, v_BTKH: Tensor) -> Tensor:
        """Return attention over all tokens that are seen, [B, N, T, H]."""
        (B, _, N, H), K = q_BTNH.shape, k_BTKH.shape[2]
        whole = []
        for past_BKPH, new_BTKH in zip(self._past[2 * block : 2 * block + 2], (k_BTKH, v_BTKH), strict=True):
            joined_BKSH = torch.cat((past_BKPH, new_BTKH.transpose(1, 2)), 2)
            self.present.append(joined_BKSH)
            if N != K:
                joined_BKSH = joined_BKSH[:, :, None].expand(B, K, N // K, -1, H).reshape(B, N, -1, H)
            whole.append(joined_BKSH)
        keys_BNSH, values_BNSH = whole
        return F.scaled_dot_product_attention(
            q_BTNH.transpose(1, 2), keys_BNSH, values_BNSH, attn_mask=self._is_seen
        )
