"""From the thread that writes to the event loop: what came since it was last looked at, at once."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

from kleiber.infer.batching import TextHandle
from kleiber.infer.batching.handle import Heard

__all__ = ["Mailbox"]


class Mailbox:
    """Pieces of the texts of one request, in the order in which they came.

    The loop is woken once for all that comes before it looks, so that a client that is slower than the model gets several tokens
    in one chunk, and a fast model does not wake the loop for each.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._has_come = asyncio.Event()
        self._lock = threading.Lock()
        self._heard: list[tuple[int, Heard]] = []

    def subscribe(self, handle: TextHandle, index: int) -> None:
        """Take in what is heard of a text, under its number."""
        handle.on_piece(partial(self._put, index))

    async def collect(self) -> list[tuple[int, Heard]]:
        """Wait until something is there, and return all of it."""
        await self._has_come.wait()
        with self._lock:
            heard, self._heard = self._heard, []
            self._has_come.clear()
        return heard

    def _put(self, index: int, heard: Heard) -> None:
        with self._lock:
            self._heard.append((index, heard))
            is_first = len(self._heard) == 1
        if is_first:
            self._loop.call_soon_threadsafe(self._has_come.set)
