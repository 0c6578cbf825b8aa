"""Byte-level BPE: trained on the train split, saved in the Hugging Face layout."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer, decoders, models, pre_tokenizers, trainers

from kleiber.data.passages import END_OF_TEXT, Passage, cut_document
from kleiber.errors import DataError

__all__ = [
    "END_OF_TEXT_ID",
    "EncodedPart",
    "EncodedTexts",
    "encode_texts",
    "encoded_parts",
    "encoded_pieces",
    "load_tokenizer",
    "token_dtype",
    "tokenizer_hash",
    "train_tokenizer",
]

END_OF_TEXT_ID = 0
"""The special token comes first in every vocabulary."""

MIN_FREQUENCY = 2
"""A pair that occurs once is no pattern; merging it would only learn the text by heart."""

_WORD_END = re.compile(r"\S(?=[ \n])")
_CHARS_A_COUNT = 2**14
_CHARS_A_PIECE = 2**18
_CHARS_A_BATCH = 2**22


@dataclass(frozen=True)
class EncodedTexts:
    """Texts one after the other."""

    tokens: npt.NDArray[np.unsignedinteger]
    """[num_tokens], of the smallest unsigned type that holds the vocabulary."""
    ends: npt.NDArray[np.int64]
    """Where the token that follows each text stands [num_texts]."""


@dataclass(frozen=True)
class EncodedPart:
    """A stretch of texts that stand one after the other."""

    tokens: npt.NDArray[np.unsignedinteger]
    """[num_tokens]"""
    is_end: npt.NDArray[np.bool_]
    """Whether a token follows a text, [num_tokens]."""


def train_tokenizer(texts: Iterable[str], vocab_size: int, *, source: str) -> Tokenizer:
    """Return a byte-level BPE tokenizer of exactly `vocab_size` entries.

    The vocabulary is `<|endoftext|>`, the 256 bytes, and merges of the most frequent pairs; words are split
    as GPT-2 splits them. The merges do not depend on the number of threads.

    Args:
        texts: What it learns from: the train split, read once, a text at a time.
        vocab_size: Entries, at least 257.
        source: What the user typed, for errors.

    Raises:
        DataError: The text has too few repeated pairs for so large a vocabulary.

    Source:
        Sennrich et al. 2016, arXiv:1508.07909; Radford et al. 2019 (bytes).

    Example:
        >>> tokenizer = train_tokenizer(["low lower lowest " * 3], 260, source="text:low.txt")
        >>> tokenizer.encode("low").tokens
        ['low']
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=MIN_FREQUENCY,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    num_chars = 0

    def read() -> Iterator[str]:
        nonlocal num_chars
        for text in texts:
            num_chars += len(text)
            # The library holds 256 of what it is given.
            yield from _between_words(text)

    tokenizer.train_from_iterator(read(), trainer=trainer)
    reached = tokenizer.get_vocab_size()
    if reached < vocab_size:
        raise DataError(
            f"data.vocab_size {vocab_size} is too large for '{source}': its training text of "
            f"{num_chars} characters gives {reached} entries.",
            hint=f"--set data.vocab_size={reached}   or a longer text",
        )
    return tokenizer


def encode_texts(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    separator: int = END_OF_TEXT_ID,
    vocab_size: int | None = None,
) -> EncodedTexts:
    """Return the tokens of the texts in one row, each text followed by the end-of-text token.

    A text that itself spells `<|endoftext|>` is spelt out in bytes: only document ends get the token.

    Args:
        tokenizer: Of `train_tokenizer`, or another.
        texts: Documents, in order.
        separator: The token that follows each.
        vocab_size: Numbers that there are; None where they have no gaps.
    """
    parts = list(encoded_parts(tokenizer, texts, separator=separator, vocab_size=vocab_size))
    is_end = np.concatenate([part.is_end for part in parts])
    return EncodedTexts(np.concatenate([part.tokens for part in parts]), np.flatnonzero(is_end))


def encoded_parts(
    tokenizer: Tokenizer, texts: Iterable[str], *, separator: int, vocab_size: int | None = None
) -> Iterator[EncodedPart]:
    """Yield the row of `encode_texts` a part at a time; the first is empty."""
    dtype = token_dtype(vocab_size or tokenizer.get_vocab_size())
    yield EncodedPart(np.empty(0, dtype), np.empty(0, np.bool_))
    for encoding, _, is_end in encoded_pieces(tokenizer, texts):
        tokens = np.array(encoding.ids + [separator] * is_end, dtype)
        ends = np.zeros(len(tokens), np.bool_)
        ends[len(tokens) - is_end :] = True
        yield EncodedPart(tokens, ends)


def encoded_pieces(
    tokenizer: Tokenizer, texts: Iterable[str], *, has_offsets: bool = False
) -> Iterator[tuple[Encoding, str, bool]]:
    """Yield the texts, long ones in pieces: the encoding of each without special tokens, the piece, whether it ends its text.

    Args:
        tokenizer: Left as it is.
        texts: In order.
        has_offsets: Whether encodings say where in the piece their tokens stand.
    """
    plain = Tokenizer.from_str(tokenizer.to_str())
    plain.encode_special_tokens = True
    encode_batch = plain.encode_batch if has_offsets else plain.encode_batch_fast
    for batch in _batched(_pieces(texts)):
        encodings = encode_batch([piece for piece, _ in batch], add_special_tokens=False)[::-1]
        for piece, is_end in batch:
            yield encodings.pop(), piece, is_end  # an encoding is gone before the next batch is made


def _between_words(text: str) -> Iterator[str]:
    """Yield a text in pieces whose words, as GPT-2 splits them, are the words of the text."""
    start = 0
    # None of its words goes from a character on to white space, nor looks there for where it ends.
    while match := _WORD_END.search(text, start + _CHARS_A_COUNT):
        yield text[start : match.end()]
        start = match.end()
    yield text[start:]


def _pieces(texts: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Yield the texts, long ones in pieces that end where a paragraph does, and whether a piece ends its text."""
    for text in texts:
        *parts, last = cut_document(Passage("", text), _CHARS_A_PIECE) or [Passage("", "")]
        yield from ((part.text, False) for part in parts)
        yield last.text, True


def _batched(pieces: Iterable[tuple[str, bool]]) -> Iterator[list[tuple[str, bool]]]:
    """Yield the pieces in batches: an encoding is many times the size of its text."""
    batch: list[tuple[str, bool]] = []
    num_chars = 0
    for piece in pieces:
        batch.append(piece)
        num_chars += len(piece[0])
        if num_chars >= _CHARS_A_BATCH:
            yield batch
            batch, num_chars = [], 0
    yield batch


def token_dtype(vocab_size: int) -> type[np.unsignedinteger]:
    """Return the smallest unsigned type that holds every token.

    Example:
        >>> token_dtype(65_536).__name__, token_dtype(65_537).__name__
        ('uint16', 'uint32')
    """
    return np.uint16 if vocab_size <= 2**16 else np.uint32


def tokenizer_hash(tokenizer: Tokenizer) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of the tokenizer's JSON."""
    return hashlib.sha256(tokenizer.to_str().encode()).hexdigest()[:16]


def load_tokenizer(folder: Path) -> Tokenizer:
    """Return the tokenizer in `folder`: `encode(text).ids` and `decode(ids)`.

    Raises:
        DataError: There is no `tokenizer.json`, or it does not parse.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise DataError(f"{folder} holds no tokenizer.json.", hint="a run's model/ folder holds one")
    try:
        return Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # noqa: BLE001 - tokenizers raises bare Exception
        raise DataError(f"{path} is not a tokenizer: {error}.") from None
