"""What an engine does for texts of different lengths, each in a row of one cache.

Legend: B rows that are read, T new tokens of each, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from kleiber.errors import UsageError
from kleiber.infer.decoding.cached_forward import Heads
from kleiber.infer.decoding.decoder import Tokens
from kleiber.infer.predictor import InEngine
from kleiber.runs import free_memory_bytes
from kleiber.units import format_bytes

__all__ = ["RowStepper", "cache_bytes", "require_memory"]

_BYTES_A_NUMBER = 4


class RowStepper(InEngine, Protocol):
    """A model and a cache of rows."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What is done otherwise than asked, a sentence each."""
        ...

    @property
    def context(self) -> int:
        """Tokens that a row has room for."""
        ...

    def read(self, first: int, tokens_BT: Tokens, num_read_B: Sequence[int]) -> npt.NDArray[np.float32]:
        """Read new tokens of neighbouring rows; return the logits after the last token of each, [B, V].

        They are the caller's until the next call. Of several rows it takes one token each.

        Args:
            first: Row of the first of them.
            tokens_BT: What is read.
            num_read_B: Tokens that each row holds before.
        """
        ...

    def copy(self, source: int, target: int, num_tokens: int) -> None:
        """Let a row hold the first `num_tokens` tokens of another."""
        ...

    def swap(self, row: int, other: int, num_tokens: int) -> None:
        """Let two rows hold each the first `num_tokens` tokens of the other."""
        ...

    def clear(self) -> None:
        """Let no row hold anything, nor anything be left of what was not finite."""
        ...


def cache_bytes(heads: Heads, num_rows: int) -> int:
    """Return what keys and values take of so many texts that fill the context, in fp32.

    Example:
        >>> cache_bytes(Heads(depth=12, num_kv_heads=12, head_dim=64, context=1024), 8)
        603979776
    """
    numbers = 2 * heads.depth * heads.num_kv_heads * heads.head_dim * heads.context
    return num_rows * numbers * _BYTES_A_NUMBER


def require_memory(heads: Heads, num_rows: int) -> None:
    """Refuse a cache that this machine has no room for, before it is made.

    Raises:
        UsageError: It takes more memory than is free.
    """
    asked, free = cache_bytes(heads, num_rows), free_memory_bytes()
    if asked > free:
        raise UsageError(
            f"keys and values of {num_rows} texts of {heads.context:,} tokens take {format_bytes(asked)}; "
            f"{format_bytes(free)} are free.",
            hint="fewer texts at once (max_running), or a shorter context",
        )
