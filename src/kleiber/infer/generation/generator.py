"""Text that goes on from prompts, as it is written.

Legend: B texts side by side, T tokens of each, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from kleiber.errors import UsageError
from kleiber.infer.generation.prompts import Prompt, prompt_tokens
from kleiber.infer.generation.reader import Reader
from kleiber.infer.generation.request import Piece, Request
from kleiber.infer.generation.sampling import Logits, Sampling, draw
from kleiber.infer.generation.speculation import (
    DraftModel,
    PromptLookup,
    Speculation,
    Speculator,
    speculate,
)
from kleiber.infer.generation.writing import Writing, allowed_next, recent
from kleiber.infer.text_model import TextModel

__all__ = ["TextGenerator", "generate"]

_MAX_SIDE_BY_SIDE = 32
"""Texts that are written at once; more take turns."""


def generate(
    model: TextModel,
    prompt: Prompt,
    request: Request | None = None,
    *,
    draft: TextModel | Literal["lookup"] | None = None,
) -> Iterator[Piece]:
    """Return an iterator over what a model writes after a prompt, a piece a token; see `TextGenerator`."""
    return TextGenerator(model, draft).generate([prompt], request or Request())


class TextGenerator:
    """A model that writes, one call after another; what a prompt begins with and the last one did is not read again.

    Args:
        model: Nobody else reads with its decoder meanwhile.
        draft: A smaller model, or `lookup`, which drafts from the text itself; used only while that is measured to be faster.
            Texts are spread as without it. With `lookup`, and where the likeliest token is taken, they are the same token for
            token, as far as the engine rounds alike whether it reads tokens one by one or together.

    Raises:
        UsageError: The draft has other tokens than the model.
    """

    def __init__(self, model: TextModel, draft: TextModel | Literal["lookup"] | None = None) -> None:
        self.model = model
        self.reader = Reader(model.decoder)
        self._speculator: Speculator | None = None
        if draft is not None:
            drafter = PromptLookup() if draft == "lookup" else DraftModel(draft, model)
            self._speculator = Speculator(drafter)

    @property
    def speculation(self) -> Speculation | None:
        """What was drafted so far; None without a draft."""
        return self._speculator.done if self._speculator else None

    def generate(self, prompts: Sequence[Prompt], request: Request) -> Iterator[Piece]:
        """Return an iterator over what is written after each prompt, a piece a token; those of several texts come mixed.

        A text is over with the piece that says `finish`. When the context is full the model starts afresh from the later half
        of what it has read and written. Texts of one prompt are samples of it.

        Raises:
            UsageError: A prompt is empty or longer than the context, or several texts are asked with a draft. Raised by this
                call, before the first piece is asked for.
            KleiberError: The model's output is not finite.
        """
        tokens = [prompt_tokens(self.model, prompt) for prompt in prompts]
        writings = [
            Writing(
                prompt,
                request,
                index=number * request.num_samples + sample,
                sample=sample,
                tokenizer=self.model.tokenizer.backend,
                end_ids=self.model.end_ids,
            )
            for number, prompt in enumerate(tokens)
            for sample in range(request.num_samples)
        ]
        if self._speculator is None:
            return self._write_all(writings, request.sampling)
        if len(writings) != 1:
            raise UsageError(
                "a draft helps one text at a time.",
                got=f"{len(writings)} texts",
                hint="one prompt and one sample, or no draft",
            )
        return speculate(writings[0], self.reader, self._speculator, request.sampling)

    def _write_all(self, writings: list[Writing], sampling: Sampling) -> Iterator[Piece]:
        # Texts whose prompts are about as long go side by side: they soon write together.
        ordered = sorted(writings, key=lambda one: len(one.tokens))
        for start in range(0, len(ordered), _MAX_SIDE_BY_SIDE):
            yield from self._write(ordered[start : start + _MAX_SIDE_BY_SIDE], sampling)

    def _write(self, writings: list[Writing], sampling: Sampling) -> Iterator[Piece]:
        """Write texts side by side; those whose prompt is longer than the shortest read it while others write."""
        length = min(len(one.tokens) for one in writings)
        logits_BV = self.reader.read(np.array([one.tokens[:length] for one in writings]))
        while True:
            rows = [row for row, one in enumerate(writings) if one.is_open and len(one.tokens) == length]
            yield from _drawn([writings[row] for row in rows], logits_BV[rows], sampling)
            if not any(one.is_open for one in writings):
                return
            length += 1
            if self.reader.has_room:
                # The last token again of those that are over: nobody looks at what follows.
                next_B1 = np.array([[one.tokens[min(length, len(one.tokens)) - 1]] for one in writings])
                logits_BV = self.reader.extend(next_B1)[:, 0]
            else:
                writings = [one for one in writings if one.is_open]
                logits_BV = self.reader.read(recent(writings, self.reader.decoder.context))


def _drawn(writings: list[Writing], logits_BV: Logits, sampling: Sampling) -> Iterator[Piece]:
    """Write a token more of each text."""
    if not writings:
        return
    uniform_B = np.array([one.rng.random() for one in writings])
    allowed_BV = allowed_next(writings, logits_BV.shape[1])
    tokens_B = draw(logits_BV, sampling, [one.tokens for one in writings], uniform_B, allowed_BV)
    for one, token, logits_V in zip(writings, tokens_B.tolist(), logits_BV, strict=True):
        yield one.add(token, logits_V)
