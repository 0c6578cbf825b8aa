"""Several sequences that grow together, whatever library computes the model.

Legend: B sequences, T tokens of each, V vocabulary.
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

    def step(self, tokens_BT: Tokens) -> npt.NDArray[np.float32]:
        """Read more tokens of each sequence; return the logits of the next, [B, V]."""
        ...


class Decoder:
    """A language model that reads sequences of one length side by side and keeps what it has read.

    Args:
        stepper: Of an engine.
        context: Tokens it can hold.
    """

    def __init__(self, stepper: Stepper, context: int) -> None:
        self.context = context
        self.length = 0
        self.engine, self.precision, self.notes = stepper.engine, stepper.precision, stepper.notes
        self._stepper = stepper
        self._batch = 0

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
        self._batch, self.length = tokens_BT.shape[0], 0
        self._stepper.start(self._batch)
        return self._read(tokens_BT)

    def decode(self, tokens_B: Tokens) -> npt.NDArray[np.float32]:
        """Read one more token of each sequence; return the logits of the next, [B, V].

        Raises:
            UsageError: `context` tokens have been read, or none; or not one token a sequence.
        """
        if not self.length:
            raise UsageError("nothing to go on from: prefill comes before decode.")
        if tokens_B.shape != (self._batch,):
            raise UsageError(
                f"decode takes a token of each of the {self._batch} sequences.", got=tokens_B.shape
            )
        self._require_room(self.length + 1)
        return self._read(tokens_B[:, None])

    def _read(self, tokens_BT: Tokens) -> npt.NDArray[np.float32]:
        logits_BV = self._stepper.step(tokens_BT)
        self.length += tokens_BT.shape[1]
        return logits_BV

    def _require_room(self, num_tokens: int) -> None:
        if num_tokens > self.context:
            raise UsageError(f"the model reads at most {self.context} tokens.", got=num_tokens)
