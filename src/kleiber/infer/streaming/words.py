"""The tokens of a text that arrives in pieces: those of the whole text, as soon as nothing that follows can change them."""

from __future__ import annotations

import re
from collections.abc import Callable

from kleiber.errors import UsageError

__all__ = ["WordStream"]

_WORD_END = re.compile(r"\S(?=[ \n])")
_MOST_HELD_CHARS = 4096
"""Of a text without white space; more than any word has, and little memory."""


class WordStream:
    """Gives tokens out word by word: no tokenizer of words makes a token of a word's end and the white space behind it.

    Args:
        tokens_of: Of a text, without what is put around it.

    Raises:
        UsageError: The tokens of a text are not those of its words.
    """

    def __init__(self, tokens_of: Callable[[str], list[int]]) -> None:
        if tokens_of("a b") != tokens_of("a") + tokens_of(" b"):
            raise UsageError(
                "the run's tokenizer reads a text as a whole: its tokens are not those of the words one after the other.",
                hint="kleiber classify RUN FILE   without --stream",
            )
        self._tokens_of = tokens_of
        self._held = ""
        self.num_cut_words = 0
        """Words so long that they were read in parts: the tokens where they were cut may differ from those of the whole text."""

    @property
    def held(self) -> str:
        """The text whose tokens are not certain yet."""
        return self._held

    def push(self, piece: str) -> list[int]:
        """Return the tokens of the words that this piece ends; often none."""
        self._held += piece
        end = max((match.end() for match in _WORD_END.finditer(self._held)), default=0)
        if not end and len(self._held) > _MOST_HELD_CHARS:
            self.num_cut_words += 1
            end = len(self._held)
        certain, self._held = self._held[:end], self._held[end:]
        return self._tokens_of(certain) if certain else []

    def unfinished(self) -> list[int]:
        """Return the tokens of what is held as they would be if the text ended here; it may go on after."""
        return self._tokens_of(self._held) if self._held else []
