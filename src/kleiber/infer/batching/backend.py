"""What runs the requests of a batch, token by token."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

import numpy as np

from kleiber.errors import KleiberError
from kleiber.infer.generation.request import Piece, Request
from kleiber.infer.generation.writing import Writing
from kleiber.infer.predictor import InEngine

__all__ = ["Backend", "Job", "Written"]

_NO_LOGITS = np.empty(0)


@dataclass(frozen=True, eq=False)
class Job:
    """A text that is to be written; no two are the same."""

    writing: Writing
    """Leaves logarithmic probabilities to whoever draws."""
    request: Request
    """With no more tokens than the context has room for."""
    sample: int
    """Of the prompt: with the seed it says what is drawn."""

    def add(self, token: int, said: tuple[float, tuple[tuple[int, float], ...]] | None) -> Piece:
        """Write a token on, and return what it adds.

        Args:
            token: That was drawn.
            said: Its logarithmic probability, and the likeliest tokens with theirs; None where nobody asked.
        """
        piece = self.writing.add(token, _NO_LOGITS)
        return piece if said is None else replace(piece, logprob=said[0], likeliest=said[1])


Written: TypeAlias = list[tuple[Job, Piece | KleiberError]]
"""What texts have more of, and why one of them cannot go on."""


class Backend(InEngine, Protocol):
    """A model that writes several texts; they come and go while it does."""

    @property
    def context(self) -> int:
        """Tokens that a text may have with its prompt, but for the last, which need not be read."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What is done otherwise than asked, a sentence each."""
        ...

    @property
    def cache_frac(self) -> float:
        """Share of the cache that is in use."""
        ...

    def check(self, job: Job) -> None:
        """Refuse a text that it cannot write.

        Raises:
            UsageError: It was asked for something that the engine has not.
        """
        ...

    def admit(self, job: Job) -> None:
        """Take a text in; there is room for as many as it was opened for."""
        ...

    def step(self) -> Written:
        """Do what brings texts on by about a token; return what was written, of some texts nothing yet, or why one cannot go on.

        Raises:
            KleiberError: The model's output is not finite, or the engine gave up.
        """
        ...

    def release(self, job: Job) -> None:
        """Forget a text, over or not."""
        ...
