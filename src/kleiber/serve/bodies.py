"""Bodies of requests: read whole before anything else is done, within limits of size and time."""

from __future__ import annotations

import asyncio
import time

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kleiber.serve.errors import RefusedError, error_response
from kleiber.serve.settings import ServeSettings

__all__ = ["Bodies"]

_LINGER_S = 2.0
"""For the rest of a refused body to arrive: a client that is cut off while it sends does not see the answer."""


class _LeftError(Exception):
    """The client left while it sent."""


class Bodies:
    """Reads the body of each request, and refuses it when it is too large, too slow, or there is no room for it now.

    Args:
        app: Gets the body in one piece.
        settings: Limits.
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings) -> None:
        self._app, self._settings = app, settings
        self._num_held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body and go on, or answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = bytearray()
        try:
            self._refuse_announced(Headers(scope=scope).get("content-length"))
            try:
                async with asyncio.timeout(self._settings.body_timeout_s):
                    await self._read(receive, body)
            except TimeoutError:
                raise RefusedError(
                    f"the body did not arrive within {self._settings.body_timeout_s:g} s.", status=408
                ) from None
            await self._app(scope, _again(bytes(body), receive), send)
        except RefusedError as refusal:
            await _refuse(refusal, scope, receive, send)
        except _LeftError:
            return  # nobody is there to be answered
        finally:
            self._num_held_bytes -= len(body)

    def _refuse_announced(self, length: str | None) -> None:
        if length is not None and length.isdigit() and int(length) > self._settings.max_body_bytes:
            raise self._too_large()

    async def _read(self, receive: Receive, body: bytearray) -> None:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _LeftError
            chunk = message.get("body", b"")
            body += chunk
            self._num_held_bytes += len(chunk)
            if len(body) > self._settings.max_body_bytes:
                raise self._too_large()
            if self._num_held_bytes > self._settings.max_held_bytes:
                raise RefusedError(
                    "the server holds as many bodies as it may.",
                    status=429,
                    code="bodies_full",
                    retry_after_s=1,
                )
            if not message.get("more_body", False):
                return

    def _too_large(self) -> RefusedError:
        return RefusedError(
            f"the body is larger than {self._settings.max_body_bytes:,} bytes.",
            status=413,
            code="body_too_large",
        )


def _again(body: bytes, receive: Receive) -> Receive:
    """Return what hands on the body, and then what comes."""
    is_told = False

    async def told() -> Message:
        nonlocal is_told
        if is_told:
            return await receive()
        is_told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return told


async def _refuse(refusal: RefusedError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer at once, and then let the client end what it is sending."""
    response = error_response(refusal)
    response.headers["Connection"] = "close"

    async def send_and_linger(message: Message) -> None:
        if message["type"] != "http.response.body":
            await send(message)
            return
        await send({**message, "more_body": True})
        await _linger(receive)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    await response(scope, receive, send_and_linger)


async def _linger(receive: Receive) -> None:
    until = time.monotonic() + _LINGER_S
    try:
        async with asyncio.timeout(_LINGER_S):
            while time.monotonic() < until:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return
