"""A decoder that remembers what it has read, and does not read it again.

Legend: B sequences, T tokens of each, V vocabulary.
"""

from __future__ import annotations

import numpy as np

from kleiber.infer.decoding.decoder import Decoder, Tokens
from kleiber.infer.generation.sampling import Logits

__all__ = ["Reader"]

_NUM_AT_ONCE = 128
"""Tokens that are read on after a known beginning at once: an engine answers for each, which takes memory of a vocabulary each."""
_LEAST_PART = 0.125
"""A known beginning that is a smaller part of a text is read again: in one piece, with one answer, that is faster."""


class Reader:
    """Reads texts with a decoder, of which it is the only reader as long as nobody else starts anew.

    Attributes:
        num_read: Tokens that the decoder has read, of each sequence.
        num_reused: Tokens that it did not have to.
    """

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.num_read = self.num_reused = 0
        self._held_BT: Tokens = np.empty((0, decoder.context), np.int64)
        self._length = 0

    @property
    def has_room(self) -> bool:
        """Whether another token can be read."""
        return self.decoder.length < self.decoder.context

    def read(self, tokens_BT: Tokens) -> Logits:
        """Read these sequences from their beginning; return the logits of the next token of each, [B, V].

        What is held of them already stays.

        Raises:
            UsageError: No tokens, or more than the context.
        """
        num_known = self._num_known(tokens_BT)
        if num_known < max(1.0, _LEAST_PART * tokens_BT.shape[1]):
            logits_BV = self.decoder.prefill(tokens_BT)
            self._hold(0, tokens_BT)
            return logits_BV
        self.rewind(num_known)
        self.num_reused += num_known
        rest_BT = tokens_BT[:, num_known:]
        for start in range(0, rest_BT.shape[1], _NUM_AT_ONCE):
            logits_BV = self.extend(rest_BT[:, start : start + _NUM_AT_ONCE])[:, -1]
        return logits_BV

    def extend(self, tokens_BT: Tokens) -> Logits:
        """Read more tokens of each sequence; return the logits after each, [B, T, V].

        Raises:
            UsageError: There is no room for so many.
        """
        start = self.decoder.length
        logits_BTV = self.decoder.extend(tokens_BT)
        self._hold(start, tokens_BT)
        return logits_BTV

    def rewind(self, length: int) -> None:
        """Forget all tokens after the first `length`.

        Raises:
            UsageError: Fewer were read.
        """
        self.decoder.rewind(length)
        self._length = length

    def _num_known(self, tokens_BT: Tokens) -> int:
        """Return how many first tokens of all sequences are held; never all of them, for the last one's logits are asked."""
        num = min(self._length, tokens_BT.shape[-1] - 1)
        # A decoder at another length was used by somebody else since.
        if num < 1 or len(tokens_BT) != len(self._held_BT) or self.decoder.length != self._length:
            return 0
        is_other_T = (self._held_BT[:, :num] != tokens_BT[:, :num]).any(0)
        return int(is_other_T.argmax()) if is_other_T.any() else num

    def _hold(self, start: int, tokens_BT: Tokens) -> None:
        if len(self._held_BT) != len(tokens_BT):
            self._held_BT = np.empty((len(tokens_BT), self.decoder.context), np.int64)
        self._length = start + tokens_BT.shape[1]
        self._held_BT[:, start : self._length] = tokens_BT
        self.num_read += tokens_BT.shape[1]
