"""What is timed call by call: a prompt and the tokens that follow it, or whole samples.

Legend: B sequences or samples, T tokens, N calls.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kleiber.errors import UsageError
from kleiber.infer.decoding import Decoder
from kleiber.infer.measure.figures import Workload
from kleiber.infer.measure.work import Turn
from kleiber.infer.predictor import Predictor

__all__ = ["SampleCalls", "TextCalls", "TextTimes"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TextTimes:
    """Of one prompt of each sequence, and what followed."""

    first_s: float
    """Until the first new token is known."""
    each_s_N: Floats
    """Of each token after the first."""


class TextCalls:
    """Prompts that are read, then the likeliest tokens, each timed by itself.

    Args:
        decoder: Of an engine.
        prompts_BT: Text to read, at least one sequence; repeated where a batch is larger.
        num_new: Tokens that are timed after the first.

    Raises:
        UsageError: The context does not hold them.
    """

    workload: Workload = "decode"
    max_calls = 1

    def __init__(self, decoder: Decoder, prompts_BT: npt.NDArray[np.int64], num_new: int) -> None:
        if prompts_BT.shape[1] + num_new > decoder.context:
            raise UsageError(
                f"{prompts_BT.shape[1]} tokens and {num_new} after them do not fit into a context of {decoder.context}."
            )
        self.engine, self.precision, self.notes = decoder.engine, decoder.precision, decoder.notes
        self.decoder, self.num_new = decoder, num_new
        self._prompts_BT = prompts_BT

    def times(self, batch: int, *, num_new: int | None = None) -> TextTimes:
        """Return the times of one prompt of `batch` sequences and of the tokens after it.

        Args:
            batch: Sequences.
            num_new: Other than all of them, to warm up.
        """
        decoder = self.decoder
        prompts_BT = np.ascontiguousarray(self._prompts_BT[np.arange(batch) % len(self._prompts_BT)])
        each_s_N = np.zeros(self.num_new if num_new is None else num_new)
        start = time.perf_counter()
        last_B = decoder.prefill(prompts_BT).argmax(1)
        first_s = time.perf_counter() - start
        for index in range(len(each_s_N)):
            start = time.perf_counter()
            last_B = decoder.decode(last_B).argmax(1)
            each_s_N[index] = time.perf_counter() - start
        return TextTimes(first_s, each_s_N)

    def once(self) -> None:
        """Read a prompt and a token after it: what an engine cannot do it says here."""
        self.times(1, num_new=1)

    def turn(self, batch: int) -> Turn:
        """Return what times the tokens of `batch` sequences after a prompt; whatever the number of calls, all of them."""

        def run(_: int) -> float:
            return float(self.times(batch).each_s_N.mean())

        return run


class SampleCalls:
    """Whole samples, each call timed by itself.

    Args:
        predictor: Of an engine.
        inputs: Real samples, in the order of the module's arguments; repeated where a batch is larger.
    """

    workload: Workload = "forward"
    max_calls = 1000

    def __init__(self, predictor: Predictor, inputs: Sequence[npt.NDArray[Any]]) -> None:
        self.engine, self.precision = predictor.engine, predictor.precision
        self.notes: tuple[str, ...] = getattr(predictor, "notes", ())
        self.predictor = predictor
        self._inputs = tuple(inputs)

    def times(self, batch: int, num_calls: int) -> Floats:
        """Return the seconds of so many calls on `batch` samples, [N]."""
        arrays = tuple(one[np.arange(batch) % len(one)] for one in self._inputs)
        times_s_N = np.zeros(num_calls)
        for index in range(num_calls):
            start = time.perf_counter()
            self.predictor(*arrays)
            times_s_N[index] = time.perf_counter() - start
        return times_s_N

    def once(self) -> None:
        """Answer one sample: what an engine cannot do it says here."""
        self.times(1, 1)

    def turn(self, batch: int) -> Turn:
        """Return what times calls on `batch` samples."""
        return lambda num_calls: float(self.times(batch, num_calls).mean())
