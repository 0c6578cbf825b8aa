"""Texts on disk while a corpus is prepared: written once, read back one at a time, so that memory never holds them all."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from kleiber.runs.files import storage_errors

__all__ = ["Span", "TextSpool"]


class TextSpool:
    """A file without a name: it goes with the process, however that ends.

    Args:
        folder: On the disk that it takes room of; made when missing.

    Raises:
        StorageError: The disk refused.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - closed by `__exit__`
        self._num_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, _error: object, _traceback: TracebackType | None) -> None:
        self._file.close()

    def put(self, text: str) -> Span:
        """Write a text behind the others; return where it stands.

        Raises:
            StorageError: The disk refused.
        """
        content, start = _encoded(text), self._num_bytes
        with storage_errors(self._folder):
            self._file.seek(start)
            rest = memoryview(content)
            while rest:
                rest = rest[self._file.write(rest) :]
        self._num_bytes += len(content)
        return Span(self, start, len(content), len(text))

    def get(self, start: int, num_bytes: int) -> str:
        """Return the text between two places [bytes]."""
        self._file.seek(start)
        parts = []
        while num_bytes:
            parts.append(self._file.read(num_bytes))
            num_bytes -= len(parts[-1])
        return b"".join(parts).decode(errors="surrogatepass")


@dataclass(frozen=True, slots=True)
class Span:
    """A text in a spool."""

    spool: TextSpool
    start: int
    """[bytes]"""
    num_bytes: int
    num_chars: int

    def read(self) -> str:
        """Return the text."""
        return self.spool.get(self.start, self.num_bytes)

    def cut(self, parts: Sequence[str]) -> list[Span]:
        """Return where each of the parts stands that the text consists of, in order."""
        spans, start = [], self.start
        for part in parts:
            spans.append(Span(self.spool, start, len(_encoded(part)), len(part)))
            start += spans[-1].num_bytes
        return spans


def _encoded(text: str) -> bytes:
    """Return a text as bytes that give it back, lone surrogates included."""
    return text.encode(errors="surrogatepass")
