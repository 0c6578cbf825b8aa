"""What a caller asks of a model that writes, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from kleiber.errors import UsageError
from kleiber.infer.generation.constraint import Constraint
from kleiber.infer.generation.sampling import Sampling

__all__ = ["Finish", "Piece", "Request"]

Finish = Literal["stop", "length", "end"]
"""Why a text is over: a stop string came, so many tokens were asked for, or the model ended it or its form."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """How a prompt is gone on from.

    Raises:
        UsageError: A value is outside its range.
    """

    max_tokens: int = 200
    """Most tokens to write of each text."""
    sampling: Sampling = field(default_factory=Sampling)
    """How each is drawn."""
    seed: int = 0
    """The same seed gives the same text; sample number n of a prompt is the same whatever is written beside it."""
    stop: tuple[str, ...] = ()
    """Strings that end a text where the first of them comes; they are no part of it."""
    num_logprobs: int | None = None
    """Of each token, how many likeliest are told with their logarithmic probabilities; 0 tells the drawn one's alone, None none."""
    num_samples: int = 1
    """Texts of each prompt."""
    constraint: Constraint | None = None
    """The form of each text; one that ends otherwise than by its end, as by `max_tokens`, does not have it."""

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if self.max_tokens < 1:
            raise UsageError("max_tokens must be 1 or more.", got=self.max_tokens, hint="--max-tokens 200")
        if self.seed < 0:
            raise UsageError("seed must be 0 or more.", got=self.seed, hint="--seed 0")
        if not all(self.stop):
            raise UsageError("a stop string must have a character.", got=self.stop, hint="--stop END")
        if self.num_logprobs is not None and self.num_logprobs < 0:
            raise UsageError("num_logprobs must be 0 or more.", got=self.num_logprobs, hint="--logprobs 5")
        if self.num_samples < 1:
            raise UsageError("num_samples must be 1 or more.", got=self.num_samples, hint="--num-samples 4")


@dataclass(frozen=True)
class Piece:
    """What one more token adds to a text."""

    index: int
    """Which text: samples of the first prompt come first, then those of the second."""
    token: int
    """What was drawn."""
    text: str
    """Characters that it completes; none while a character is incomplete or what is held back may become a stop string."""
    logprob: float | None = None
    """Logarithm of the probability that the model gives the token, before anything of `Sampling` [nats]."""
    likeliest: tuple[tuple[int, float], ...] = ()
    """The likeliest tokens with theirs, likeliest first."""
    finish: Finish | None = None
    """Why the text is over; None while it is not."""
