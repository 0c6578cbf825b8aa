"""Ctrl-C and SIGTERM end a run after a checkpoint, not in the middle of a step."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Self

__all__ = ["InterruptFlag"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class InterruptFlag:
    """Set by the first SIGINT or SIGTERM inside the `with` block; a second SIGINT interrupts at once.

    Outside the main thread signals cannot be caught, and the flag stays down.
    """

    def __init__(self) -> None:
        self.is_set = False
        self._previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._raise_flag) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type] # what signal() itself returned

    def _raise_flag(self, number: int, _frame: FrameType | None) -> None:
        if self.is_set and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.is_set = True
