"""Texts become an answer: whole, or in chunks as they are written."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Protocol

from kleiber.infer.generation import Piece
from kleiber.serve.answers import Head, usage
from kleiber.serve.asked.sampling import StreamOptions
from kleiber.serve.writing.texts import Texts

__all__ = ["Form", "chunks", "whole"]


class Form(Protocol):
    """How one kind of answer spells its choices."""

    @property
    def keeps_empty(self) -> bool:
        """Whether a token without a character is told of too, for its probability."""
        ...

    def first(self, index: int) -> dict[str, Any] | None:
        """Return what a stream says of a choice before its text; None is nothing."""
        ...

    def more(self, index: int, pieces: Sequence[Piece], offset: int) -> dict[str, Any]:
        """Return what a stream says of pieces that came together, the first of them so many characters into the text."""
        ...

    def whole(self, index: int, pieces: Sequence[Piece]) -> dict[str, Any]:
        """Return a choice."""
        ...


async def whole(head: Head, form: Form, texts: Texts) -> dict[str, Any]:
    """Return the answer when all texts are over.

    Raises:
        KleiberError: They are given up.
    """
    pieces: list[list[Piece]] = [[] for _ in range(texts.num_texts)]
    with texts:
        async for batch in texts.batches():
            for index, piece in batch:
                pieces[index].append(piece)
    choices = [form.whole(index, found) for index, found in enumerate(pieces)]
    return head.document(choices, usage=usage(texts.num_prompt_tokens, texts.num_tokens))


async def chunks(
    head: Head, form: Form, texts: Texts, options: StreamOptions | None
) -> AsyncGenerator[dict[str, Any], None]:
    """Yield the chunks of a stream; what one choice got at once is one chunk.

    Raises:
        KleiberError: The texts are given up.
    """
    asked = options or StreamOptions()
    num_chars = [0] * texts.num_texts

    def told(choice: dict[str, Any]) -> dict[str, Any]:
        if asked.continuous_usage_stats:
            return head.document([choice], usage=usage(texts.num_prompt_tokens, texts.num_tokens))
        return head.document([choice], **({"usage": None} if asked.include_usage else {}))

    with texts:
        for index in range(texts.num_texts):
            first = form.first(index)
            if first is not None:
                yield told(first)
        async for batch in texts.batches():
            for index in dict.fromkeys(index for index, _ in batch):
                pieces = [piece for number, piece in batch if number == index]
                text = "".join(piece.text for piece in pieces)
                if text or form.keeps_empty or pieces[-1].finish is not None:
                    yield told(form.more(index, pieces, num_chars[index]))
                num_chars[index] += len(text)
    if asked.include_usage:
        yield head.document([], usage=usage(texts.num_prompt_tokens, texts.num_tokens))
