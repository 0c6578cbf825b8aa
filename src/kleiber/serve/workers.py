"""Threads beside the event loop for what computes: few, and behind a bounded queue."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import ParamSpec, TypeVar

from kleiber.runs import num_cores
from kleiber.serve.errors import RefusedError
from kleiber.serve.metrics import Metrics

__all__ = ["Workers"]

ArgsT = ParamSpec("ArgsT")
ResultT = TypeVar("ResultT")

_MOST_THREADS = 4
"""What computes in a thread uses several cores by itself; more threads only wait for each other."""
_MOST_RETRY_S = 60
_MEMORY = 0.8
"""Share of the past in the running mean of how long a request takes."""


class Workers:
    """Runs functions in threads for so many requests at a time; those beyond are turned away at once.

    All methods are for the event loop's thread, but for `engine`.

    Args:
        metrics: Counts those that are turned away.
        max_waiting: Requests that may wait beside those that are worked on.
        num_threads: None takes the cores, at most four.
        timeout_s: For a request.

    Attributes:
        max_admitted: Requests that may be worked on and wait.
        num_admitted: Those that are and do.
    """

    def __init__(
        self, metrics: Metrics, *, max_waiting: int, timeout_s: float, num_threads: int | None = None
    ) -> None:
        self._metrics = metrics
        self._num_threads = num_threads or min(num_cores(), _MOST_THREADS)
        self._pool = ThreadPoolExecutor(self._num_threads, thread_name_prefix="kleiber-work")
        self.max_admitted = self._num_threads + max_waiting
        self._timeout_s = timeout_s
        self.num_admitted = 0
        self._engines: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._mean_s = 0.0

    @asynccontextmanager
    async def admitted(self, model: str) -> AsyncIterator[None]:
        """Count a request while it is worked on.

        Args:
            model: That it asks for.

        Raises:
            RefusedError: As many are worked on and wait as may (429), or it took longer than it may (503).
        """
        if self.num_admitted >= self.max_admitted:
            self._metrics.rejected(model, "queue_full")
            raise RefusedError(
                f"{self.num_admitted} requests are worked on or wait already.",
                status=429,
                code="queue_full",
                retry_after_s=self._retry_after_s(),
            )
        self.num_admitted += 1
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout_s):
                yield
        except TimeoutError:
            raise RefusedError(
                f"the request took longer than {self._timeout_s:g} s.", status=503, code="timeout"
            ) from None
        finally:
            self.num_admitted -= 1
            taken_s = time.monotonic() - began
            self._mean_s = _MEMORY * self._mean_s + (1 - _MEMORY) * taken_s if self._mean_s else taken_s

    async def run(self, work: Callable[ArgsT, ResultT], *args: ArgsT.args, **kwargs: ArgsT.kwargs) -> ResultT:
        """Return what a function returns, computed in a thread; if nobody waits for it any more it is not begun."""
        # Cancelling the waiting one cancels the work that has not begun; what has begun ends by itself.
        return await asyncio.wrap_future(self._pool.submit(work, *args, **kwargs))

    def engine(self, model: str) -> threading.Lock:
        """Return what a thread holds while it calls the engine of a model: engines answer one caller at a time."""
        return self._engines[model]

    def close(self) -> None:
        """Let the threads go when they have done what they began."""
        self._pool.shutdown(cancel_futures=True)

    def _retry_after_s(self) -> int:
        """Return when there may be room: in about the time that one of the requests takes."""
        return min(_MOST_RETRY_S, max(1, math.ceil(self._mean_s * self.num_admitted / self._num_threads)))
