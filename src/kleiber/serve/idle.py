"""Connections that ask nothing: uvicorn waits for ever for headers that have begun, or never begin."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["IdleConnections"]


class IdleConnections:
    """Closes connections on which no request has come for too long.

    Args:
        limit_s: For headers to be whole, from the connection's beginning or from the end of the last answer.
        now: Tells the time [s].
    """

    def __init__(self, limit_s: float, now: Callable[[], float] = time.monotonic) -> None:
        self._limit_s, self._now = limit_s, now
        self._seen: dict[Any, tuple[Any, float]] = {}

    def close(self, connections: Iterable[Any]) -> None:
        """Look at those that are open, as uvicorn has them, and close the idle ones.

        Args:
            connections: With the `cycle` of the last request, None before the first, and a `transport`.
        """
        now, seen = self._now(), {}
        for connection in connections:
            cycle = getattr(connection, "cycle", None)
            if cycle is not None and not cycle.response_complete:
                continue
            last, since = self._seen.get(connection, (cycle, now))
            # Another request was answered since.
            seen[connection] = (cycle, now if last is not cycle else since)
            if now - seen[connection][1] > self._limit_s:
                connection.transport.close()
        self._seen = seen
