"""Pieces of text: what a source yields, what is held out, what is packed."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kleiber.data.text_spool import Span, TextSpool, blocks_of

__all__ = ["END_OF_TEXT", "Passage", "cut_document", "joined", "split_documents"]

END_OF_TEXT = "<|endoftext|>"
"""Stands between documents, in files as in tokens."""

_SEPARATOR = re.compile(rf"[ \t]*{re.escape(END_OF_TEXT)}[ \t]*\n?")
_PARAGRAPH_END = re.compile(r"\n(?:[ \t]*\n)+")


@dataclass(frozen=True, slots=True)
class Passage:
    """A document, or one of the parts that a long one is cut into.

    Parts of one document joined in order give its text back, character for character.
    """

    document: str
    """Name of the document: a path relative to its source, with `#3` for the third inside a file."""
    content: str | Span
    """The text, or where it stands."""
    part: int = 0

    @property
    def text(self) -> str:
        """The text; of one that stands on disk, read anew each time."""
        return self.content if isinstance(self.content, str) else self.content.read()

    @property
    def num_chars(self) -> int:
        """Length of the text, which need not be read for it."""
        return len(self.content) if isinstance(self.content, str) else self.content.num_chars

    @property
    def is_blank(self) -> bool:
        """Whether the text is nothing but white space."""
        return not any(block.strip() for block in blocks_of(self.content))

    @property
    def name(self) -> str:
        """The document's name and the part's number: what the choice of the held-out text depends on."""
        return f"{self.document}:{self.part}"

    def follows(self, other: Passage) -> bool:
        """Whether the text runs on from `other` to this passage."""
        return self.document == other.document and self.part == other.part + 1


def split_documents(name: str, lines: Iterable[str], spool: TextSpool) -> Iterator[Passage]:
    r"""Yield the documents of a file: between lines that hold only `<|endoftext|>`, else the file itself.

    Args:
        name: Of the file.
        lines: Each with its "\n" but perhaps the last; memory holds a mebibyte of them.
        spool: Where the texts go.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> with TextSpool(Path(tempfile.gettempdir())) as spool:
        ...     documents = split_documents("a.txt", ["one\n", "<|endoftext|>\n", "two\n"], spool)
        ...     [(passage.document, passage.text) for passage in documents]
        [('a.txt#0', 'one'), ('a.txt#1', 'two')]
    """
    rest, is_whole = iter(lines), True

    def until_separator() -> Iterator[str]:
        nonlocal is_whole
        for line in rest:
            if _SEPARATOR.fullmatch(line):
                is_whole = False
                return
            yield line

    for number in itertools.count():
        is_whole = True
        span = spool.put(until_separator())
        if number == 0 and is_whole:
            yield Passage(name, span)
            return
        document = Passage(f"{name}#{number}", span.without_outer_line_ends())
        if not document.is_blank:
            yield document
        if is_whole:
            return


def cut_document(passage: Passage, num_chars: int) -> list[Passage]:
    """Return the document in parts of at most `num_chars` characters.

    A part ends where a paragraph does; in a paragraph that is too long, at the end of a line; in a line
    that is too long, after a space; in a text without spaces, anywhere.

    Example:
        >>> [part.text for part in cut_document(Passage("a", "To be, or not to be."), 8)]
        ['To be, ', 'or not ', 'to be.']
    """
    if 0 < passage.num_chars <= num_chars:
        return [passage]
    texts = _cut(blocks_of(passage.content), num_chars)
    contents: Iterable[str | Span] = texts
    if isinstance(passage.content, Span):
        contents = passage.content.cut(texts)
    return [Passage(passage.document, content, part) for part, content in enumerate(contents)]


def _cut(blocks: Iterable[str], num_chars: int) -> Iterator[str]:
    """Yield the parts of a text that is given in blocks, whatever their lengths."""
    held, seam = "", ""
    for block in itertools.chain(blocks, [None]):
        held += block or ""
        paragraph_ends = [match.end() - len(seam) for match in _PARAGRAPH_END.finditer(seam + held)][::-1]
        # A paragraph ends with the last of the blank lines after it: how far those go must be seen.
        num_seen = math.inf if block is None else len(held.rstrip(" \t\n")) - num_chars
        start = 0
        while start < min(len(held), num_seen):
            end = start + num_chars
            stop = start
            while paragraph_ends and paragraph_ends[-1] <= end:
                stop = paragraph_ends.pop()
            if end >= len(held):
                stop = len(held)
            elif stop == start:
                stop = held.rfind("\n", start, end) + 1 or held.rfind(" ", start, end) + 1 or end
            yield held[start:stop]
            start = stop
        # Blank lines before a seam and after it are of one paragraph's end.
        seam = "\n" if (seam + held[:start]).rstrip(" \t").endswith("\n") else ""
        held = held[start:]


def joined(passages: Iterable[Passage]) -> Iterator[str]:
    """Yield the texts with the parts that run on from each other put together again.

    Example:
        >>> list(joined([Passage("a", "x", 0), Passage("a", "y", 1), Passage("a", "z", 3), Passage("b", "w")]))
        ['xy', 'z', 'w']
    """
    run: list[str] = []
    previous: Passage | None = None
    for passage in passages:
        if previous is not None and not passage.follows(previous):
            yield "".join(run)
            run = []
        run.append(passage.text)
        previous = passage
    if previous is not None:
        yield "".join(run)
