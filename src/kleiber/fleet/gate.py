"""Ctrl-C only where it can be answered."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from kleiber.train.interrupt import handling

__all__ = ["InterruptGate", "interrupt_gate"]


class InterruptGate:
    """Holds signals back until the gate is open, then raises `KeyboardInterrupt` there."""

    def __init__(self) -> None:
        self._is_open = False
        self._is_pending = False

    def receive(self, *_: object) -> None:
        """Handle a signal."""
        self._is_pending = True
        if self._is_open:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Let a signal through inside the block, one that came before it at once."""
        self._is_open = True
        try:
            if self._is_pending:
                raise KeyboardInterrupt
            yield
        finally:
            self._is_open = False


@contextlib.contextmanager
def interrupt_gate() -> Iterator[InterruptGate]:
    """Return a gate for SIGINT and SIGTERM inside the block.

    An executor yields events to code of its caller; a Ctrl-C that came there would leave the jobs untold.
    """
    gate = InterruptGate()
    with handling(gate.receive):
        yield gate
