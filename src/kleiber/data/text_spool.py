"""Texts on disk while a corpus is prepared: written once, read back a piece at a time, so that memory never holds them all."""

from __future__ import annotations

import codecs
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from kleiber.runs.files import storage_errors

__all__ = ["Span", "TextSpool", "blocks_of"]

_BLOCK_BYTES = 2**20


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

    def put(self, parts: Iterable[str]) -> Span:
        """Write a text, given in parts of any length, behind the others; return where it stands.

        Raises:
            StorageError: The disk refused.
        """
        start, num_chars = self._num_bytes, 0
        block = bytearray()
        for part in parts:
            num_chars += len(part)
            block += _encoded(part)
            if len(block) >= _BLOCK_BYTES:
                self._append(block)
                block = bytearray()
        self._append(block)
        return Span(self, start, self._num_bytes - start, num_chars)

    def _append(self, content: bytearray) -> None:
        with storage_errors(self._folder):
            self._file.seek(self._num_bytes)
            rest = memoryview(content)
            while rest:
                rest = rest[self._file.write(rest) :]
        self._num_bytes += len(content)

    def get(self, start: int, num_bytes: int) -> bytes:
        """Return what stands from a place on."""
        self._file.seek(start)
        parts = []
        while num_bytes:
            parts.append(self._file.read(num_bytes))
            num_bytes -= len(parts[-1])
        return b"".join(parts)


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
        return self.spool.get(self.start, self.num_bytes).decode(errors="surrogatepass")

    def blocks(self) -> Iterator[str]:
        """Yield the text, about a mebibyte at a time."""
        decoder = codecs.getincrementaldecoder("utf-8")(errors="surrogatepass")
        end = self.start + self.num_bytes
        for start in range(self.start, end, _BLOCK_BYTES):
            yield decoder.decode(self.spool.get(start, min(_BLOCK_BYTES, end - start)))

    def without_outer_line_ends(self) -> Span:
        r"""Return where the text stands without "\n" before and after it."""
        start, end = self.start, self.start + self.num_bytes
        while start < end and self.spool.get(start, 1) == b"\n":
            start += 1
        while start < end and self.spool.get(end - 1, 1) == b"\n":
            end -= 1
        num_cut = self.num_bytes - (end - start)
        return Span(self.spool, start, end - start, self.num_chars - num_cut)

    def cut(self, parts: Iterable[str]) -> list[Span]:
        """Return where each of the parts stands that the text consists of, in order."""
        spans, start = [], self.start
        for part in parts:
            spans.append(Span(self.spool, start, len(_encoded(part)), len(part)))
            start += spans[-1].num_bytes
        return spans


def blocks_of(content: str | Span) -> Iterator[str]:
    """Yield a text in pieces that memory holds one of; a text that it holds anyway is one."""
    if isinstance(content, str):
        yield content
    else:
        yield from content.blocks()


def _encoded(text: str) -> bytes:
    """Return a text as bytes that give it back, lone surrogates included."""
    return text.encode(errors="surrogatepass")
