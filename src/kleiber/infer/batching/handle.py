"""A text that somebody waits for, as it is written."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

from kleiber.errors import KleiberError
from kleiber.infer.generation.request import Piece

__all__ = ["TextHandle"]


class TextHandle:
    """Pieces of one text, a piece a token: iterating waits for the next and ends after the one that says `finish`.

    Any thread may iterate, one at a time, and any may cancel.
    """

    def __init__(self) -> None:
        self._pieces: queue.SimpleQueue[Piece | KleiberError | None] = queue.SimpleQueue()
        self._cancelled = threading.Event()

    @property
    def is_cancelled(self) -> bool:
        """Whether nobody wants it any more."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Give it up: nothing more of it is written, and whoever waits for a piece waits no longer."""
        self._cancelled.set()
        self._pieces.put(None)

    def put(self, piece: Piece | KleiberError) -> None:
        """Hand on a piece, or why there will be no more; the batch does."""
        self._pieces.put(piece)

    def __iter__(self) -> Iterator[Piece]:
        """Yield the pieces as they come.

        Raises:
            KleiberError: The text cannot be written on.
        """
        while not self.is_cancelled:
            piece = self._pieces.get()
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
