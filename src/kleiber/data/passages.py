"""Pieces of text: what a source yields, what is held out, what is packed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from kleiber.data.text_spool import Span

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
    def name(self) -> str:
        """The document's name and the part's number: what the choice of the held-out text depends on."""
        return f"{self.document}:{self.part}"

    def follows(self, other: Passage) -> bool:
        """Whether the text runs on from `other` to this passage."""
        return self.document == other.document and self.part == other.part + 1


def split_documents(name: str, lines: Iterable[str]) -> Iterator[Passage]:
    r"""Yield the documents of a file: between lines that hold only `<|endoftext|>`, else the file itself.

    Args:
        name: Of the file.
        lines: Each with its "\n" but perhaps the last; one document's are held at a time.

    Example:
        >>> [passage.text for passage in split_documents("a.txt", ["one\n", "<|endoftext|>\n", "two\n"])]
        ['one', 'two']
    """
    number, held = 0, list[str]()
    for line in lines:
        if _SEPARATOR.fullmatch(line):
            yield from _numbered(name, number, held)
            number, held = number + 1, []
        else:
            held.append(line)
    if number:
        yield from _numbered(name, number, held)
    else:
        yield Passage(name, "".join(held))


def _numbered(name: str, number: int, lines: Iterable[str]) -> Iterator[Passage]:
    text = "".join(lines)
    if text.strip():
        yield Passage(f"{name}#{number}", text.strip("\n"))


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
    text, start = passage.text, 0
    parts: list[str] = []
    paragraph_ends = [match.end() for match in _PARAGRAPH_END.finditer(text)][::-1]
    while start < len(text):
        end = start + num_chars
        stop = start
        while paragraph_ends and paragraph_ends[-1] <= end:
            stop = paragraph_ends.pop()
        if end >= len(text):
            stop = len(text)
        elif stop == start:
            stop = text.rfind("\n", start, end) + 1 or text.rfind(" ", start, end) + 1 or end
        parts.append(text[start:stop])
        start = stop
    contents: Sequence[str | Span] = parts
    if isinstance(passage.content, Span):
        contents = passage.content.cut(parts)
    return [Passage(passage.document, content, part) for part, content in enumerate(contents)]


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
