"""What is timed: whole inputs through a predictor, or single tokens through a decoder.

Legend: B sequences or samples, T tokens.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from kleiber.infer.decoding import Decoder
from kleiber.infer.measure.figures import Workload
from kleiber.infer.predictor import InEngine, Predictor

__all__ = ["DecodeWork", "ForwardWork", "Turn", "Work"]

Turn: TypeAlias = Callable[[int], float]
"""Seconds that a call takes, the mean of so many in a row after one that is not counted."""


class Work(InEngine, Protocol):
    """A model behind an engine with something to do."""

    @property
    def workload(self) -> Workload:
        """`forward` or `decode`."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done otherwise than asked, a sentence each."""
        ...

    @property
    def max_calls(self) -> int:
        """Most calls of a turn."""
        ...

    def turn(self, batch: int) -> Turn:
        """Return what times calls on `batch` samples, or tokens of as many sequences."""
        ...


class ForwardWork:
    """Whole inputs.

    Args:
        predictor: Of an engine.
        inputs: Real samples, in the order of the module's arguments; repeated where a batch is larger.
    """

    workload: Workload = "forward"
    max_calls = 1000

    def __init__(self, predictor: Predictor, inputs: Sequence[npt.NDArray[Any]]) -> None:
        self.engine, self.precision = predictor.engine, predictor.precision
        self.notes: tuple[str, ...] = getattr(predictor, "notes", ())
        self._predictor = predictor
        self._inputs = tuple(inputs)

    def turn(self, batch: int) -> Turn:
        """Return what times calls on `batch` samples."""
        arrays = tuple(one[np.arange(batch) % len(one)] for one in self._inputs)

        def run(num_calls: int) -> float:
            self._predictor(*arrays)
            start = time.perf_counter()
            for _ in range(num_calls):
                self._predictor(*arrays)
            return (time.perf_counter() - start) / num_calls

        return run


class DecodeWork:
    """One token of each sequence, around the middle of the context.

    A turn reads the first half anew, so that no engine has to forget tokens, and then times tokens before and after the
    middle; the first half is not timed.

    Args:
        decoder: Of an engine.
        tokens_BT: Real text to read, `context` tokens of at least one sequence; repeated where a batch is larger.
    """

    workload: Workload = "decode"

    def __init__(self, decoder: Decoder, tokens_BT: npt.NDArray[np.int64]) -> None:
        self.engine, self.precision, self.notes = decoder.engine, decoder.precision, decoder.notes
        self.max_calls = max(1, min(64, decoder.context // 4))
        self._decoder = decoder
        self._tokens_BT = tokens_BT

    def turn(self, batch: int) -> Turn:
        """Return what times tokens of `batch` sequences."""
        tokens_BT = np.ascontiguousarray(self._tokens_BT[np.arange(batch) % len(self._tokens_BT)])

        def run(num_calls: int) -> float:
            first = max(1, self._decoder.context // 2 - num_calls // 2 - 1)
            self._decoder.prefill(tokens_BT[:, :first])
            self._decoder.decode(tokens_BT[:, first])
            columns = [tokens_BT[:, first + 1 + index].copy() for index in range(num_calls)]
            start = time.perf_counter()
            for tokens_B in columns:
                self._decoder.decode(tokens_B)
            return (time.perf_counter() - start) / num_calls

        return run
