"""What every engine offers, whatever library computes the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

__all__ = ["Engine"]


class Engine(Protocol):
    """A language model that reads one sequence and keeps what it has read."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's own."""
        ...

    @property
    def context(self) -> int:
        """Tokens it can hold."""
        ...

    def prefill(self, tokens: Sequence[int]) -> npt.NDArray[np.float32]:
        """Start a new sequence with `tokens`; return the logits of the next token, [vocabulary].

        Raises:
            UsageError: No tokens, or more than `context`.
        """
        ...

    def decode(self, token: int) -> npt.NDArray[np.float32]:
        """Read one more token; return the logits of the next, [vocabulary].

        Raises:
            UsageError: `context` tokens have been read, or none.
        """
        ...
