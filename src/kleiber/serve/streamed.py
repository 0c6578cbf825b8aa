"""Answers that wait for a model while their client may leave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from kleiber.errors import KleiberError
from kleiber.serve.errors import RefusedError, error_response

__all__ = ["CLIENT_LEFT", "EventStream", "unless_left"]

T = TypeVar("T")

CLIENT_LEFT = 499
"""Status of a request whose client left before it was answered; nobody reads it but the metrics."""
_DONE = b"data: [DONE]\n\n"


async def unless_left(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return what is worked out, or give it up within moments when the client leaves.

    Args:
        request: Whose body has been read.
        work: Is cancelled then.

    Raises:
        RefusedError: The client has left.
    """
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_left(request.receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise RefusedError("the client has left.", status=CLIENT_LEFT)
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


class EventStream(StreamingResponse):
    """Server-sent events, one a document, and `[DONE]` after the last.

    Args:
        documents: In JSON; it is closed when the client leaves. An error that it raises is the last event.
        on_close: Is called at the end in any case: a client may leave before the first event.
    """

    media_type = "text/event-stream"

    def __init__(self, documents: AsyncGenerator[dict[str, Any], None], on_close: Callable[[], None]) -> None:
        self._documents, self._on_close = documents, on_close
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(_events(documents), headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events until they end or the client leaves."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._documents.aclose()
            self._on_close()


async def _events(documents: AsyncIterator[dict[str, Any]]) -> AsyncIterator[bytes]:
    try:
        async for document in documents:
            yield _event(document)
    except KleiberError as error:
        # The status has been sent: what went wrong is told as OpenAI's API does, by an event.
        yield b"data: " + bytes(error_response(error).body) + b"\n\n"
    yield _DONE


def _event(document: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(document, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
