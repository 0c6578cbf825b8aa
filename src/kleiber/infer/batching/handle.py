"""A text that somebody waits for, as it is written."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator
from typing import TypeAlias

from kleiber.errors import KleiberError
from kleiber.infer.generation.request import Piece

__all__ = ["Heard", "TextHandle"]

Heard: TypeAlias = Piece | KleiberError | None
"""What comes of a text: a piece, why there will be no more, or None: it was given up."""


class TextHandle:
    """Pieces of one text, a piece a token: iterating waits for the next and ends after the one that says `finish`.

    Any thread may iterate, one at a time, and any may cancel. Whoever cannot wait has them called out by `on_piece`.
    """

    def __init__(self) -> None:
        self._heard: queue.SimpleQueue[Heard] = queue.SimpleQueue()
        self._cancelled = threading.Event()
        self._listener: Callable[[Heard], None] | None = None
        # Held while something is handed on, so that the order is kept; a listener may cancel while it is called.
        self._handing = threading.RLock()

    @property
    def is_cancelled(self) -> bool:
        """Whether nobody wants it any more."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Give it up: nothing more of it is written, and whoever waits for a piece waits no longer."""
        with self._handing:
            if not self.is_cancelled:
                self._cancelled.set()
                self._hand_on(None)

    def put(self, piece: Piece | KleiberError) -> None:
        """Hand on a piece, or why there will be no more; the batch does."""
        with self._handing:
            if not self.is_cancelled:
                self._hand_on(piece)

    def on_piece(self, listener: Callable[[Heard], None]) -> None:
        """Call a function with each piece instead of keeping it for who iterates; with those that are there already at once.

        It is called by the thread that writes, in order, and must return at once: a server passes
        `functools.partial(loop.call_soon_threadsafe, pieces.put_nowait)`. A text whose listener raises is cancelled.

        Args:
            listener: Takes a piece; the last says `finish`. Or an error, and there are no more; or None when it is cancelled.
        """
        with self._handing:
            self._listener = listener
            while self._listener is not None and not self._heard.empty():
                self._hand_on(self._heard.get())

    def __iter__(self) -> Iterator[Piece]:
        """Yield the pieces as they come.

        Raises:
            KleiberError: The text cannot be written on.
        """
        while not self.is_cancelled:
            piece = self._heard.get()
            if piece is None:
                return
            if isinstance(piece, KleiberError):
                raise piece
            yield piece
            if piece.finish is not None:
                return

    def text(self) -> str:
        """Return the whole text, when it is over or was cancelled.

        Raises:
            KleiberError: The text cannot be written on.
        """
        return "".join(piece.text for piece in self)

    def _hand_on(self, heard: Heard) -> None:
        if self._listener is None:
            self._heard.put(heard)
            return
        try:
            self._listener(heard)
        except Exception:  # whatever it raises, the thread writes for others too
            logging.getLogger(__name__).exception("whoever listened to a text failed; it is cancelled")
            self._listener = None
            self._cancelled.set()
