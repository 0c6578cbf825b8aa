"""`/v1/completions`: prompts that are gone on from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from tokenizers import Tokenizer

from kleiber.infer.generation import Piece
from kleiber.serve.answering import chunks, whole
from kleiber.serve.answers import Head, completion_logprobs, finish_reason
from kleiber.serve.asked.completion import CompletionBody
from kleiber.serve.json_body import JsonRoute
from kleiber.serve.served import Served, served_of
from kleiber.serve.streamed import EventStream, unless_left
from kleiber.serve.writing.desk import Work
from kleiber.serve.writing.prompt_reader import PromptReader

__all__ = ["router"]

_MAX_TOKENS = 16
"""Of a text whose length nobody asked for, as in OpenAI's API."""


def router() -> APIRouter:
    """Return the route."""
    routes = APIRouter(tags=["text"], route_class=JsonRoute)

    @routes.post("/v1/completions", response_model=None)
    async def complete(body: CompletionBody, request: Request) -> Response:
        """Go on from prompts, as OpenAI's API does; with `stream` as server-sent events."""
        return await unless_left(request, _answer(served_of(request), body))

    return routes


async def _answer(served: Served, body: CompletionBody) -> Response:
    body.refuse_unsupported()
    model, desk = served.writer(body.model)
    prompts = body.prompts
    served.refuse_many(num_prompts=len(prompts), num_samples=body.num_samples)
    texts = await desk.begin(lambda reader: _work(reader, body), len(prompts) * body.num_samples)
    head = Head("text_completion", model, "cmpl")
    echoes = tuple(desk.reader.spelt(prompt) if body.echo else "" for prompt in prompts)
    form = _Form(desk.reader.tokenizer, body.logprobs is not None, echoes, body.num_samples)
    if body.stream:
        return EventStream(chunks(head, form, texts, body.stream_options), texts.leave)
    return JSONResponse(await whole(head, form, texts))


def _work(reader: PromptReader, body: CompletionBody) -> Work:
    """Return what a request comes to; it is called in the thread that reads."""
    request = body.request(max_tokens=body.max_tokens or _MAX_TOKENS, num_logprobs=body.logprobs)
    tokens = [reader.prompt(prompt) for prompt in body.prompts]
    return Work(tokens, request, body.num_samples, is_max_tokens_asked=body.max_tokens is not None)


@dataclass(frozen=True)
class _Form:
    """A completion's choices."""

    tokenizer: Tokenizer
    keeps_empty: bool
    """Where logarithmic probabilities are told."""
    echoes: tuple[str, ...]
    """What the texts of each prompt begin with."""
    num_samples: int

    def first(self, index: int) -> dict[str, Any] | None:
        echo = self.echoes[index // self.num_samples]
        return self._choice(index, (), echo, 0) if echo else None

    def more(self, index: int, pieces: Sequence[Piece], offset: int) -> dict[str, Any]:
        return self._choice(index, pieces, "", offset)

    def whole(self, index: int, pieces: Sequence[Piece]) -> dict[str, Any]:
        return self._choice(index, pieces, self.echoes[index // self.num_samples], 0)

    def _choice(self, index: int, pieces: Sequence[Piece], echo: str, offset: int) -> dict[str, Any]:
        told = completion_logprobs(self.tokenizer, pieces, offset) if self.keeps_empty else None
        return {
            "index": index,
            "text": echo + "".join(piece.text for piece in pieces),
            "logprobs": told,
            "finish_reason": finish_reason(pieces),
        }
