"""Drafts of a smaller model."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from kleiber.errors import UsageError
from kleiber.infer.decoding import Decoder
from kleiber.infer.generation.reader import Reader
from kleiber.infer.generation.sampling import Probabilities, Sampling, pick, probabilities
from kleiber.infer.generation.speculation.drafter import Draft, Outlook
from kleiber.infer.text_model import TextModel

__all__ = ["DraftModel"]

_OCCASION = 0
_NUM_READ, _NUM_WRITTEN = 16, 5
"""Tokens of the trial that tells what the draft takes, before any text is written."""


class DraftModel:
    """Proposes what another model with the same tokens writes; it may be in another engine.

    Args:
        draft: Of one sequence at a time, that nobody else reads with.
        model: That it drafts for.

    Raises:
        UsageError: Their tokens are not the same.
    """

    is_free = False

    def __init__(self, draft: TextModel, model: TextModel) -> None:
        if draft.tokenizer.backend.get_vocab() != model.tokenizer.backend.get_vocab():
            raise UsageError(
                f"{draft.folder} cannot draft for {model.folder}: their tokenizers are not the same.",
                got=f"{draft.tokenizer.vocab_size} tokens, and {model.tokenizer.vocab_size}",
                hint="--draft lookup, or a smaller rung of the same ladder",
            )
        self._end_ids = draft.end_ids
        self._read_s, self._each_s = _times_s(draft.decoder)
        self._num_read = 0
        self._reader = Reader(draft.decoder)
        self._start = 0

    def begin(self) -> None:
        """Make ready for another text."""
        self._start = self._num_read = 0

    def occasion(self, tokens: Sequence[int]) -> int | None:  # noqa: ARG002 - a model always has something to say
        """Return the one kind that there is."""
        return _OCCASION

    def outlook(self, occasion: int, tokens: Sequence[int]) -> Outlook:  # noqa: ARG002 - there is one kind
        """Return what drafting takes, by a trial before the first text."""
        return Outlook(each_s=self._each_s, behind_s=self._read_s * max(0, len(tokens) - self._num_read - 1))

    def propose(self, tokens: Sequence[int], num: int, sampling: Sampling, rng: np.random.Generator) -> Draft:
        """Return `num` tokens drawn as the model's own are, fewer where the draft's context or the text ends."""
        context = self._reader.decoder.context
        num = min(num, context // 2)
        # It looks at a part of a text that is longer than its context, and moves on by half of that at a time.
        if len(tokens) - self._start + num - 1 > context:
            self._start = len(tokens) - max(1, context // 2)
        logits_BV = self._reader.read(np.asarray(tokens[self._start :], np.int64)[None])
        written, probs_KV = list(tokens), list[Probabilities]()
        for left in range(num, 0, -1):
            probs_BV = probabilities(logits_BV, sampling, [written])
            token = int(pick(probs_BV, rng.random(1))[0])
            probs_KV.append(probs_BV[0])
            written.append(token)
            if left == 1 or token in self._end_ids:
                break
            logits_BV = self._reader.extend(np.array([[token]]))[:, 0]
        self._num_read = len(written)
        return Draft(tuple(written[len(tokens) :]), None if sampling.is_greedy else tuple(probs_KV))


def _times_s(decoder: Decoder) -> tuple[float, float]:
    """Return what a decoder takes to read a token of a text, and to write one: the first of each is not counted."""
    num = max(1, min(_NUM_READ, decoder.context - _NUM_WRITTEN))
    tokens_1T = np.zeros((1, num), np.int64)
    decoder.prefill(tokens_1T)
    start = time.perf_counter()
    decoder.prefill(tokens_1T)
    read_s = (time.perf_counter() - start) / num
    written_s = []
    for _ in range(min(_NUM_WRITTEN, decoder.context - num)):
        start = time.perf_counter()
        decoder.decode(tokens_1T[:, 0])
        written_s.append(time.perf_counter() - start)
    return read_s, float(np.median(written_s[1:] or written_s or [read_s]))
