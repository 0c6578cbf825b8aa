"""Several sequences that grow together, whatever library computes the model.

Legend: B sequences, T tokens of each, L of them whose logits are wanted, V vocabulary.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from kleiber.errors import UsageError
from kleiber.infer.predictor import InEngine

__all__ = ["Decoder", "Stepper", "Tokens"]

Tokens = npt.NDArray[np.int64]


class Stepper(InEngine, Protocol):
    """What an engine does for a decoder."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done otherwise than asked, a sentence each."""
        ...

    def start(self, batch: int) -> None:
        """Forget what was read; make room for `batch` sequences."""
        ...

    def step(self, tokens_BT: Tokens, num_kept: int) -> npt.NDArray[np.float32]:
        """Read more tokens of each sequence; return the logits after each of the last `num_kept`, [B, L, V]."""
        ...

    def rewind(self, length: int) -> None:
        """Forget all tokens after the first `length`, of every sequence."""
        ...


class Decoder:
    """A language model that reads sequences of one length side by side and keeps what it has read.

    Arrays that it returns are the caller's until the next call: an engine may write its next answer into the same memory.

    Args:
        stepper: Of an engine.
        context: Tokens it can hold.
    """

    def __init__(self, stepper: Stepper, context: int) -> None:
        self.context = context
        self.length = 0
        self.batch = 0
        self.engine, self.precision, self.notes = stepper.engine, stepper.precision, stepper.notes
        self._stepper = stepper

    def prefill(self, tokens_BT: Tokens) -> npt.NDArray[np.float32]:
        """Start new sequences; return the logits of the next token of each, [B, V].

        Raises:
            UsageError: No tokens, or more than `context`.
        """
        if tokens_BT.ndim != 2 or not tokens_BT.size:
            raise UsageError(
                "prefill takes the tokens of each sequence, as many of each.", got=tokens_BT.shape
            )
        self._require_room(tokens_BT.shape[1])
        self.batch, self.length = tokens_BT.shape[0], 0
        self._stepper.start(self.batch)
        return self._read(tokens_BT, 1)[:, 0]

    def decode(self, tokens_B: Tokens) -> npt.NDArray[np.float32]:
        """Read one more token of each sequence; return the logits of the next, [B, V].

        Raises:
            UsageError: `context` tokens have been read, or none; or not one token a sequence.
        """
        if tokens_B.shape != (self.batch,):
            self._require_begun()
            raise UsageError(
                f"decode takes a token of each of the {self.batch} sequences.", got=tokens_B.shape
            )
        return self.extend(tokens_B[:, None])[:, 0]

    def extend(self, tokens_BT: Tokens) -> npt.NDArray[np.float32]:
        """Read several more tokens of each sequence; return the logits after each, [B, T, V].

        Raises:
            UsageError: There is no room for so many, or nothing was read; or not as many of each sequence.
        """
        self._require_begun()
        if tokens_BT.ndim != 2 or len(tokens_BT) != self.batch or not tokens_BT.size:
            raise UsageError(
                f"extend takes tokens of each of the {self.batch} sequences, as many of each.",
                got=tokens_BT.shape,
            )
        self._require_room(self.length + tokens_BT.shape[1])
        return self._read(tokens_BT, tokens_BT.shape[1])

    def rewind(self, length: int) -> None:
        """Forget all tokens after the first `length` of every sequence; at 0 only `prefill` goes on.

        Raises:
            UsageError: Fewer tokens have been read.
        """
        if not 0 <= length <= self.length:
            raise UsageError(
                f"rewind goes back to 0 to {self.length} tokens, as many as were read.", got=length
            )
        if length < self.length:
            self._stepper.rewind(length)
            self.length = length

    def _read(self, tokens_BT: Tokens, num_kept: int) -> npt.NDArray[np.float32]:
        logits_BLV = self._stepper.step(tokens_BT, num_kept)
        self.length += tokens_BT.shape[1]
        return logits_BLV

    def _require_begun(self) -> None:
        if not self.length:
            raise UsageError("nothing to go on from: prefill comes before decode.")

    def _require_room(self, num_tokens: int) -> None:
        if num_tokens > self.context:
            raise UsageError(f"the model reads at most {self.context} tokens.", got=num_tokens)
