"""Bodies in JSON: read away from the event loop where they are large, and only what JSON really is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from fastapi import Request, Response
from fastapi.routing import APIRoute

__all__ = ["JsonRoute", "read_json"]

_LARGE_BYTES = 100_000
"""Below it a body is read in less time than a thread takes to hear of it."""


def read_json(body: bytes) -> Any:
    """Return what a body says.

    Raises:
        ValueError: It is not JSON in UTF-8, or says a number or a letter that there is not: NaN, half of a surrogate pair.

    Example:
        >>> read_json(b'{"n": 1}')
        {'n': 1}
    """
    try:
        read = json.loads(body.decode(), parse_constant=_refuse_constant)
        if b"\\u" in body:  # half of a pair is no text, and nothing could write it again
            json.dumps(read, ensure_ascii=False).encode()
    except UnicodeError:
        raise ValueError("it is not UTF-8 text") from None
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    return read


class JsonRequest(Request):
    """A request whose body is read by `read_json`."""

    async def json(self) -> Any:
        """Return what the body says.

        Raises:
            JSONDecodeError: It is not JSON.
        """
        body = await self.body()
        try:
            return read_json(body) if len(body) < _LARGE_BYTES else await asyncio.to_thread(read_json, body)
        except ValueError as error:
            raise json.JSONDecodeError(str(error), "", 0) from None


class JsonRoute(APIRoute):
    """A route whose body is read by `read_json`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
        answer = super().get_route_handler()

        async def handler(request: Request) -> Response:
            return await answer(JsonRequest(request.scope, request.receive))

        return handler


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")
