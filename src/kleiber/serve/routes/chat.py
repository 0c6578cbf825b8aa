"""`/v1/chat/completions`: conversations that the model goes on with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from tokenizers import Tokenizer

from kleiber.infer.generation import Piece
from kleiber.serve.answering import chunks, whole
from kleiber.serve.answers import Head, chat_logprobs, finish_reason
from kleiber.serve.asked.chat import ChatBody
from kleiber.serve.json_body import JsonRoute
from kleiber.serve.served import Served, served_of
from kleiber.serve.streamed import EventStream, unless_left
from kleiber.serve.writing.desk import Work
from kleiber.serve.writing.prompt_reader import PromptReader

__all__ = ["router"]


def router() -> APIRouter:
    """Return the route."""
    routes = APIRouter(tags=["text"], route_class=JsonRoute)

    @routes.post("/v1/chat/completions", response_model=None)
    async def chat(body: ChatBody, request: Request) -> Response:
        """Go on with a conversation, as OpenAI's API does; with `stream` as server-sent events."""
        return await unless_left(request, _answer(served_of(request), body))

    return routes


async def _answer(served: Served, body: ChatBody) -> Response:
    body.refuse_unsupported()
    messages = body.said()
    model, desk = served.writer(body.model)
    served.refuse_many(num_prompts=1, num_samples=body.num_samples)
    texts = await desk.begin(lambda reader: _work(reader, body, messages), body.num_samples)
    form = _Form(desk.reader.tokenizer, keeps_empty=bool(body.logprobs))
    if body.stream:
        head = Head("chat.completion.chunk", model, "chatcmpl")
        return EventStream(chunks(head, form, texts, body.stream_options), texts.leave)
    return JSONResponse(await whole(Head("chat.completion", model, "chatcmpl"), form, texts))


def _work(reader: PromptReader, body: ChatBody, messages: list[dict[str, str]]) -> Work:
    """Return what a request comes to; it is called in the thread that reads."""
    asked = body.max_completion_tokens or body.max_tokens
    request = body.request(
        max_tokens=asked or reader.context, num_logprobs=body.num_logprobs, more_stops=reader.chat_stops
    )
    return Work([reader.chat(messages)], request, body.num_samples, is_max_tokens_asked=asked is not None)


@dataclass(frozen=True)
class _Form:
    """An answer's choices."""

    tokenizer: Tokenizer
    keeps_empty: bool
    """Where logarithmic probabilities are told."""

    def first(self, index: int) -> dict[str, Any]:
        delta = {"role": "assistant", "content": ""}
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}

    def more(self, index: int, pieces: Sequence[Piece], offset: int) -> dict[str, Any]:  # noqa: ARG002 - of the protocol
        text = "".join(piece.text for piece in pieces)
        return {"index": index, "delta": {"content": text} if text else {}, **self._told(pieces)}

    def whole(self, index: int, pieces: Sequence[Piece]) -> dict[str, Any]:
        text = "".join(piece.text for piece in pieces)
        message = {"role": "assistant", "content": text, "refusal": None}
        return {"index": index, "message": message, **self._told(pieces)}

    def _told(self, pieces: Sequence[Piece]) -> dict[str, Any]:
        logprobs = chat_logprobs(self.tokenizer, pieces) if self.keeps_empty else None
        return {"logprobs": logprobs, "finish_reason": finish_reason(pieces)}
