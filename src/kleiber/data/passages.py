"""Pieces of text: what a source yields, what is held out, what is packed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

__all__ = ["END_OF_TEXT", "Passage", "cut_document", "joined", "split_documents"]

END_OF_TEXT = "<|endoftext|>"
"""Stands between documents, in files as in tokens."""

_SEPARATOR = re.compile(rf"^[ \t]*{re.escape(END_OF_TEXT)}[ \t]*$", re.MULTILINE)
_PARAGRAPH_END = re.compile(r"\n(?:[ \t]*\n)+")


@dataclass(frozen=True)
class Passage:
    """A document, or one of the parts that a long one is cut into.

    Parts of one document joined in order give its text back, character for character.
    """

    document: str
    """Name of the document: a path relative to its source, with `#3` for the third inside a file."""
    text: str
    part: int = 0

    @property
    def name(self) -> str:
        """The document's name and the part's number: what the choice of the held-out text depends on."""
        return f"{self.document}:{self.part}"

    def follows(self, other: Passage) -> bool:
        """Whether the text runs on from `other` to this passage."""
        return self.document == other.document and self.part == other.part + 1


def split_documents(name: str, text: str) -> Iterator[Passage]:
    r"""Yield the documents of a file: between lines that hold only `<|endoftext|>`, else the file itself.

    Example:
        >>> [passage.text for passage in split_documents("a.txt", "one\n<|endoftext|>\ntwo\n")]
        ['one', 'two']
    """
    parts = _SEPARATOR.split(text)
    if len(parts) == 1:
        yield Passage(name, text)
        return
    for number, part in enumerate(parts):
        if part.strip():
            yield Passage(f"{name}#{number}", part.strip("\n"))


def cut_document(passage: Passage, num_chars: int) -> list[Passage]:
    """Return the document in parts of at most `num_chars` characters.

    A part ends where a paragraph does; in a paragraph that is too long, at the end of a line; in a line
    that is too long, after a space; in a text without spaces, anywhere.

    Example:
        >>> [part.text for part in cut_document(Passage("a", "To be, or not to be."), 8)]
        ['To be, ', 'or not ', 'to be.']
    """
    if 0 < len(passage.text) <= num_chars:
        return [passage]
    text, start = passage.text, 0
    parts: list[Passage] = []
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
        parts.append(Passage(passage.document, text[start:stop], len(parts)))
        start = stop
    return parts


def joined(passages: Iterable[Passage]) -> list[str]:
    """Return the texts with the parts that run on from each other put together again.

    Example:
        >>> joined([Passage("a", "x", 0), Passage("a", "y", 1), Passage("a", "z", 3), Passage("b", "w")])
        ['xy', 'z', 'w']
    """
    runs: list[list[str]] = []
    previous: Passage | None = None
    for passage in passages:
        if previous is not None and passage.follows(previous):
            runs[-1].append(passage.text)
        else:
            runs.append([passage.text])
        previous = passage
    return ["".join(run) for run in runs]
