"""Every request gets a number, an end and a place in the figures."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kleiber.serve.errors import RefusedError, error_response
from kleiber.serve.metrics import Metrics
from kleiber.serve.settings import ServeSettings
from kleiber.serve.streamed import CLIENT_LEFT

__all__ = ["Watch"]

_LOG = logging.getLogger("kleiber.serve")
_GRACE_S = 5.0
"""After the time allowed, within which an answer that knows of it ends by itself."""


class Watch:
    """Numbers requests, counts answers, and ends what takes longer than it may.

    Args:
        app: Behind it.
        settings: The time allowed.
        metrics: Where it counts.
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics
        self._limit_s = settings.request_timeout_s + settings.body_timeout_s + _GRACE_S

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        number, started_at = f"req_{uuid.uuid4().hex}", time.perf_counter()
        status = CLIENT_LEFT  # until an answer begins

        async def numbered(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = number
            await send(message)

        try:
            async with asyncio.timeout(self._limit_s):
                await self._app(scope, receive, numbered)
        except TimeoutError:
            if status != CLIENT_LEFT:  # it is being sent: to cut it off says that it is not whole
                raise
            refusal = RefusedError("the answer took too long; it is given up.", status=503, code="timeout")
            await error_response(refusal)(scope, receive, numbered)
        finally:
            route = getattr(scope.get("route"), "path", None)
            time_s = time.perf_counter() - started_at
            self._metrics.request_ended(route, scope["method"], status, time_s)
            _LOG.debug("%s %s %s %d %.3f s", number, scope["method"], scope["path"], status, time_s)
