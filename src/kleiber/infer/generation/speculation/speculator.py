"""Drafting at a pace: what is proposed, what became of it, what it was worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kleiber.infer.generation.sampling import Sampling
from kleiber.infer.generation.speculation.drafter import Draft, Drafter
from kleiber.infer.generation.speculation.pace import SIZES, Pace

__all__ = ["Speculation", "Speculator"]


@dataclass(frozen=True)
class Speculation:
    """What was drafted so far."""

    num_rounds: int = 0
    """Times that the model was asked."""
    num_rounds_drafted: int = 0
    """Of them with a draft."""
    num_drafted: int = 0
    """Tokens."""
    num_kept: int = 0
    """Of them written."""

    def plus(self, num_drafted: int, num_kept: int) -> Speculation:
        """Return this with a round more."""
        return Speculation(
            self.num_rounds + 1,
            self.num_rounds_drafted + (num_drafted > 0),
            self.num_drafted + num_drafted,
            self.num_kept + num_kept,
        )


@dataclass(frozen=True)
class _Guess:
    """A proposal that was not used, and waits for what comes."""

    occasion: int
    tokens: tuple[int, ...]
    start: int


class Speculator:
    """Drafts tokens of one text after another while that is measured to be a gain.

    A draft that costs nothing is also judged where it is not used, so that its use begins and ends without being tried.

    Args:
        drafter: What proposes.
        pace: What says how many; None measures anew.

    Attributes:
        done: What was drafted so far, of all texts.
    """

    def __init__(self, drafter: Drafter, pace: Pace | None = None) -> None:
        self.done = Speculation()
        self._drafter = drafter
        self._pace = pace or Pace()
        self._asked: tuple[int, int] | None = None
        self._guess: _Guess | None = None

    def begin(self) -> None:
        """Make ready for another text."""
        self._drafter.begin()
        self._asked = self._guess = None

    def draft(self, tokens: Sequence[int], most: int, sampling: Sampling, rng: np.random.Generator) -> Draft:
        """Return at most `most` tokens that may follow these; often none."""
        occasion = None if self._pace.rests() else self._drafter.occasion(tokens)
        if occasion is None:
            self._asked = None
            return Draft()
        num = self._pace.choose(occasion, most, self._drafter.outlook(occasion, tokens))
        self._asked = occasion, num
        if num:
            return self._drafter.propose(tokens, num, sampling, rng)
        if self._drafter.is_free and self._guess is None:
            guess = self._drafter.propose(tokens, SIZES[-1], sampling, rng)
            self._guess = _Guess(occasion, guess.tokens, len(tokens))
        return Draft()

    def judge(
        self,
        draft: Draft,
        num_kept: int,
        tokens: Sequence[int],
        time_s: float,
        *,
        num_judged: int | None = None,
    ) -> None:
        """Learn what became of a draft.

        Args:
            draft: The last one.
            num_kept: How many of its first tokens were written.
            tokens: Of the text, with what was written in the round.
            time_s: Of the round, drafting included.
            num_judged: How many of its tokens the model had to say something about; None is all.
        """
        occasion, num_asked = self._asked or (None, 0)
        num_drafted = len(draft.tokens)
        self.done = self.done.plus(num_drafted, num_kept)
        if num_drafted == num_asked:  # a draft model may have ended the text sooner
            self._pace.timed(num_drafted, time_s, num_written=num_kept + 1)
        if occasion is not None and num_drafted:
            num_known = num_drafted if num_judged is None else min(num_drafted, num_judged)
            self._pace.judged(occasion, num_drafted=num_known, num_kept=num_kept)
        self._judge_guess(tokens)

    def _judge_guess(self, tokens: Sequence[int]) -> None:
        if self._guess is None:
            return
        came = tokens[self._guess.start : self._guess.start + len(self._guess.tokens)]
        is_same = [one == other for one, other in zip(self._guess.tokens, came, strict=False)]
        if all(is_same) and len(came) < len(self._guess.tokens):
            return
        num_kept = len(is_same) if all(is_same) else is_same.index(False)
        self._pace.judged(self._guess.occasion, num_drafted=len(self._guess.tokens), num_kept=num_kept)
        self._guess = None
