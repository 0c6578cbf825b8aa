"""Ctrl-C only where it can be answered."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from kleiber.train.interrupt import handling

__all__ = ["InterruptGate", "interrupt_gate"]


class InterruptGate:
    """Holds signals back until the gate is open, then raises `KeyboardInterrupt` there."""

    def __init__(self) -> None:
        self.is_pending = False
        """A signal came and has not been let through."""
        self._is_open = False

    def receive(self, *_: object) -> None:
        """Handle a signal."""
        if self._is_open:
            raise KeyboardInterrupt
        self.is_pending = True

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Let a signal through inside the block, one that came before it at once."""
        self._is_open = True
        try:
            if self.is_pending:
                self.is_pending = False
                raise KeyboardInterrupt
            yield
        finally:
            self._is_open = False


@contextlib.contextmanager
def interrupt_gate() -> Iterator[InterruptGate]:
    """Return a gate for SIGINT and SIGTERM inside the block.

    An executor yields events to code of its caller; a Ctrl-C that came there would leave the jobs untold.

    Raises:
        KeyboardInterrupt: After the block, when a signal came that the gate never let through.
    """
    gate = InterruptGate()
    with handling(gate.receive):
        yield gate
    if gate.is_pending:
        raise KeyboardInterrupt
