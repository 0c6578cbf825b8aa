"""Texts as a model was trained on them: tokens in the tokenizer's frame, cut and padded to the context.

Shapes: T tokens (the context).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from kleiber.data.table.opening import SUFFIXES, open_table
from kleiber.data.text_tokenizer import TextTokenizer
from kleiber.errors import DataError

__all__ = ["FramedTexts", "TextReader", "decoded"]

_TABLES = {suffix: kind for kind in ("csv", "jsonl", "parquet") for suffix in SUFFIXES[kind]}
"""Kind of source of each suffix."""


@dataclass(frozen=True)
class FramedTexts:
    """A tokenizer and the length that its texts get."""

    tokenizer: TextTokenizer
    context: int
    """T"""

    @property
    def room(self) -> int:
        """Tokens of a text that the context has room for, beside what the tokenizer puts around it."""
        return max(0, self.context - len(self.tokenizer.prefix) - len(self.tokenizer.suffix))

    def tokens_of(self, text: str) -> list[int]:
        """Return the tokens of a text without what is put around it."""
        tokens: list[int] = self._plain.encode(text, add_special_tokens=False).ids
        return tokens

    @cached_property
    def _plain(self) -> Tokenizer:
        """A tokenizer of its own, that reads a special token which a text spells as the text that it is."""
        plain = Tokenizer.from_str(self.tokenizer.backend.to_str())
        plain.encode_special_tokens = True
        return plain

    def framed(self, tokens: Sequence[int]) -> npt.NDArray[np.int64]:
        """Return the first tokens that there is room for, framed and padded, [T]."""
        row_T = np.full(self.context, self.tokenizer.pad_id, np.int64)
        whole = [*self.tokenizer.prefix, *tokens[: self.room], *self.tokenizer.suffix]
        row_T[: len(whole)] = whole
        return row_T


@dataclass(frozen=True)
class TextReader:
    """Reads a file of text as one text, and a table as a text a row."""

    texts: FramedTexts
    field: str | None
    """Column of a table that holds the text; None takes the only one there is."""

    suffixes: frozenset[str] = frozenset()

    def read(self, path: Path) -> Iterator[tuple[str, npt.NDArray[np.int64]]]:
        """Yield each text, [T].

        Raises:
            DataError: A text is empty or not UTF-8, or the table has no such column.
        """
        named = self._rows(path) if path.suffix.lower() in _TABLES else [(str(path), _content(path))]
        for name, text in named:
            yield name, self.of(text, name)

    def of(self, text: str, name: str) -> npt.NDArray[np.int64]:
        """Return a text as it goes into the model, [T].

        Args:
            text: Any.
            name: What it is called, for the error.

        Raises:
            DataError: It is empty.
        """
        if not text.strip():
            raise DataError(f"{name} is empty: there is no text to classify.", hint="a file with a text")
        return self.texts.framed(self.texts.tokens_of(text))

    def _rows(self, path: Path) -> Iterator[tuple[str, str]]:
        kind = _TABLES[path.suffix.lower()]
        table = open_table(f"{kind}:{path}", str(path), skips_bad=False)
        if self.field is None or self.field not in table.columns:
            raise DataError(
                f"'{path}' must have the column that the run's texts stood in, {self.field!r}.",
                got=list(table.columns),
                hint="a table with that column, or a text file a text",
            )
        for rows in table.chunks():
            for index, cell in enumerate(rows.columns[self.field]):
                yield rows.place(index), "" if cell is None else str(cell)


def decoded(content: bytes, name: str) -> str:
    r"""Return bytes as text.

    Raises:
        DataError: They are no UTF-8.

    Example:
        >>> decoded(b"caf\xc3\xa9", "a.txt")
        'café'
    """
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise DataError(f"{name} is not text in UTF-8.", hint="iconv -t UTF-8") from None


def _content(path: Path) -> str:
    try:
        return decoded(path.read_bytes(), f"'{path}'")
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error.strerror or error}.") from None
