"""From tokens to text as it comes: a token of a byte-level tokenizer may end inside a character."""

from __future__ import annotations

import codecs

from tokenizers import Tokenizer

__all__ = ["TextStream"]


def _byte_of_letter() -> dict[str, int]:
    """Return which byte each letter of a byte-level vocabulary stands for.

    Bytes that print stand for themselves; the others are numbered from 256 up.

    Source:
        Radford et al. 2019, `bytes_to_unicode` of GPT-2's encoder.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTES = _byte_of_letter()


class TextStream:
    """Turns tokens into text; a character comes out with the token that completes it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        """Return the characters that `token` completes; often none in scripts of several bytes a character."""
        letters = self._tokenizer.id_to_token(token) or ""
        if all(letter in _BYTES for letter in letters):
            return self._decoder.decode(bytes(_BYTES[letter] for letter in letters))
        return self.finish() + letters  # an added token, spelt as it is

    def finish(self) -> str:
        """Return what is left: a replacement character if the text ended inside one."""
        left = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return left
