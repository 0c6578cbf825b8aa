"""From tokens to text as it comes: a token may end inside a character, and the first of a text may be spelt otherwise."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from tokenizers import Tokenizer, decoders

__all__ = ["BYTE_OF_LETTER", "TextStream"]

_TORN = "\ufffd"


def _byte_of_letter() -> dict[str, int]:
    """Return which byte each letter of a byte-level vocabulary stands for.

    Bytes that print stand for themselves; the others are numbered from 256 up.

    Source:
        Radford et al. 2019, `bytes_to_unicode` of GPT-2's encoder.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


BYTE_OF_LETTER = _byte_of_letter()
"""Which byte each letter of a byte-level vocabulary stands for."""


class TextStream:
    """Turns tokens into text; a character comes out with the token that completes it.

    Args:
        tokenizer: Of any kind; one of bytes is read byte by byte, another by its own decoder.
        before: Tokens that the text goes on from: many decoders spell the first word of a text without its space.
    """

    def __init__(self, tokenizer: Tokenizer, before: Sequence[int] = ()) -> None:
        is_of_bytes = isinstance(tokenizer.decoder, decoders.ByteLevel)
        self._reader = _Bytes(tokenizer) if is_of_bytes else _Decoded(tokenizer, before)

    def push(self, token: int) -> str:
        """Return the characters that `token` completes; often none in scripts of several bytes a character."""
        return self._reader.push(token)

    def finish(self) -> str:
        """Return what is left: a replacement character if the text ended inside one."""
        return self._reader.finish()


class _Bytes:
    """Text of a byte-level tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        letters = self._tokenizer.id_to_token(token) or ""
        if all(letter in BYTE_OF_LETTER for letter in letters):
            return self._decoder.decode(bytes(BYTE_OF_LETTER[letter] for letter in letters))
        return self.finish() + letters  # an added token, spelt as it is

    def finish(self) -> str:
        left = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return left


class _Decoded:
    """Text of any other tokenizer: what decoding has more of with a token than without.

    Tokens are read in the company of those that last completed a character: what a decoder does at the beginning of a text is
    done to those, and bytes are never torn from the character that they are part of.
    """

    def __init__(self, tokenizer: Tokenizer, before: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._tokens = list(before)
        self._num_said = len(self._tokens)

    def push(self, token: int) -> str:
        self._tokens.append(token)
        new = self._new()
        if not new or new.endswith(_TORN):
            return ""
        self._tokens = self._tokens[self._num_said :]
        self._num_said = len(self._tokens)
        return new

    def finish(self) -> str:
        new, self._tokens, self._num_said = self._new(), [], 0
        return new

    def _new(self) -> str:
        said = self._decode(self._tokens[: self._num_said])
        return self._decode(self._tokens)[len(said) :]

    def _decode(self, tokens: list[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=False)
        return text
