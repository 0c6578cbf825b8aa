"""Keys and values of the tokens that a decoder has read.

Legend: L blocks, B sequences, K key/value heads, S tokens the cache holds room for, H features of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kleiber.errors import UsageError
from kleiber.models.gpt.spec import GPTSpec

__all__ = ["KVCache"]


class KVCache:
    """Preallocated keys and values; `length` tokens of it are filled."""

    def __init__(
        self,
        spec: GPTSpec,
        batch: int,
        *,
        max_tokens: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.max_tokens = min(max_tokens or spec.context, spec.context)
        shape = (spec.depth, batch, spec.num_kv_heads, self.max_tokens, spec.head_dim)
        self._keys_LBKSH = torch.zeros(shape, dtype=dtype, device=device)
        self._values_LBKSH = torch.zeros(shape, dtype=dtype, device=device)
        self.length = 0

    @property
    def num_bytes(self) -> int:
        """Bytes that the cache holds, filled or not."""
        return 2 * self._keys_LBKSH.nbytes

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

    def extend(self, block: int, k_BTKH: Tensor, v_BTKH: Tensor) -> tuple[Tensor, Tensor]:
        """Store the keys and values of one block's new tokens; return those of all its tokens, [B, K, S, H]."""
        end = self.length + k_BTKH.shape[1]
        keys_BKSH, values_BKSH = self._keys_LBKSH[block], self._values_LBKSH[block]
        keys_BKSH[:, :, self.length : end] = k_BTKH.transpose(1, 2)
        values_BKSH[:, :, self.length : end] = v_BTKH.transpose(1, 2)
        return keys_BKSH[:, :, :end], values_BKSH[:, :, :end]

    def advance(self, num_tokens: int) -> None:
        """Count `num_tokens` as read, after every block has stored them."""
        self.length += num_tokens
