"""Ctrl-C and SIGTERM end a run after a checkpoint, not in the middle of a step."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = ["InterruptFlag", "handling", "interrupt_flag"]


@contextlib.contextmanager
def handling(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Give SIGINT and SIGTERM to `handler` inside the block.

    Outside the main thread signals cannot be caught, and the block changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler_before in previous.items():
            signal.signal(number, handler_before)


class InterruptFlag:
    """Set by the first signal; a second SIGINT interrupts at once."""

    def __init__(self) -> None:
        self.is_set = False

    def receive(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal."""
        if self.is_set and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.is_set = True


@contextlib.contextmanager
def interrupt_flag() -> Iterator[InterruptFlag]:
    """Return a flag that SIGINT and SIGTERM set inside the block."""
    flag = InterruptFlag()
    with handling(flag.receive):
        yield flag
