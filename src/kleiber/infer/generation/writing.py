"""A text as it is written.

Legend: B texts, T tokens of each, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import numpy as np
from tokenizers import Tokenizer

from kleiber.infer.decoding.decoder import Tokens
from kleiber.infer.generation.constraint import Allowed, Guide
from kleiber.infer.generation.logprobs import logprobs
from kleiber.infer.generation.request import Finish, Piece, Request
from kleiber.infer.generation.sampling import Logits
from kleiber.infer.generation.stops import StopStrings
from kleiber.infer.generation.text import TextStream

__all__ = ["Writing", "allowed_next", "recent"]


class Writing:
    """A prompt and what has been written after it.

    Args:
        index: Of the text among those of a call.
        sample: Of the text among those of its prompt.
        prompt: Its tokens.
        request: What was asked.
        tokenizer: Of the model.
        end_ids: Tokens that end a text.

    Raises:
        UsageError: The text is to have a form, and cannot be given one.

    Attributes:
        tokens: Of the prompt and of what was written.
        rng: Draws its tokens, and nobody else's.
        finish: Why it is over; None while it is not.
    """

    def __init__(
        self,
        prompt: list[int],
        request: Request,
        *,
        index: int,
        sample: int,
        tokenizer: Tokenizer,
        end_ids: AbstractSet[int],
    ) -> None:
        self.index = index
        self.tokens = list(prompt)
        self.rng = np.random.default_rng((request.seed, sample))
        self.finish: Finish | None = None
        self._num_prompt = len(prompt)
        self._request = request
        self._end_ids = end_ids
        self._stream = TextStream(tokenizer, prompt)
        self._stops = StopStrings(request.stop)
        form = request.constraint
        self._guide = None if form is None else Guide(form, tokenizer, end_ids)

    @property
    def is_open(self) -> bool:
        """Whether it goes on."""
        return self.finish is None

    @property
    def num_left(self) -> int:
        """Tokens that it may still have."""
        return self._request.max_tokens - (len(self.tokens) - self._num_prompt)

    def allowed(self, vocab_size: int) -> Allowed | None:
        """Return which tokens may come next, [V]; None where all may.

        Raises:
            KleiberError: Nothing goes on in the form that the text has.
        """
        return None if self._guide is None else self._guide.allowed(vocab_size)

    def add(self, token: int, logits_V: Logits) -> Piece:
        """Write a token on, and return what it adds.

        Args:
            token: Drawn from the logits, and allowed.
            logits_V: Of the model.
        """
        self.tokens.append(token)
        if self._guide is not None:
            self._guide.add(token)
        text = "" if token in self._end_ids else self._stops.push(self._stream.push(token))
        self.finish = self._finish(token)
        if self.finish in ("end", "length"):
            text += self._stops.push(self._stream.finish())
            # What a text's last character completes may be a stop string.
            self.finish = "stop" if self._stops.has_stopped else self.finish
            text += self._stops.finish()
        if self._request.num_logprobs is None:
            return Piece(self.index, token, text, finish=self.finish)
        logprob, likeliest = logprobs(logits_V, token, self._request.num_logprobs)
        return Piece(self.index, token, text, logprob, likeliest, self.finish)

    def _finish(self, token: int) -> Finish | None:
        if token in self._end_ids:
            return "end"
        if self._stops.has_stopped:
            return "stop"
        if self._guide is not None and self._guide.is_complete:
            return "end"
        return None if self.num_left else "length"


def allowed_next(writings: Sequence[Writing], vocab_size: int) -> Allowed | None:
    """Return which tokens may come next in each text, [B, V]; None where all may in all.

    Raises:
        KleiberError: Nothing goes on in the form that a text has.
    """
    of_each = [one.allowed(vocab_size) for one in writings]
    if all(one is None for one in of_each):
        return None
    return np.array([np.ones(vocab_size, np.bool_) if one is None else one for one in of_each])


def recent(writings: Sequence[Writing], context: int) -> Tokens:
    """Return what a model whose context is full starts afresh from: the later half of it, of texts of one length, [B, T]."""
    return np.array([one.tokens[-max(1, context // 2) :] for one in writings])
