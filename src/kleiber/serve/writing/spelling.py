"""Tokens as text: what each is spelt like by itself."""

from __future__ import annotations

import re

from tokenizers import Tokenizer, decoders

from kleiber.infer.generation.text import BYTE_OF_LETTER

__all__ = ["token_bytes"]

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "\u2581"
"""Stands for a space in vocabularies of SentencePiece."""


def token_bytes(tokenizer: Tokenizer, token: int) -> bytes:
    r"""Return the bytes that a token stands for, in UTF-8; a part of a character where it is one.

    Args:
        tokenizer: Of any kind.
        token: One of its numbers; others stand for nothing.

    Example:
        >>> from tokenizers import models
        >>> tokenizer = Tokenizer(models.WordLevel({"\u2581low": 0, "<0x0A>": 1}))
        >>> token_bytes(tokenizer, 0), token_bytes(tokenizer, 1), token_bytes(tokenizer, 2)
        (b' low', b'\n', b'')
    """
    name = tokenizer.id_to_token(token) or ""
    if isinstance(tokenizer.decoder, decoders.ByteLevel):
        if all(letter in BYTE_OF_LETTER for letter in name):
            return bytes(BYTE_OF_LETTER[letter] for letter in name)
        return name.encode()
    byte = _BYTE.fullmatch(name)
    return bytes([int(byte[1], 16)]) if byte else name.replace(_SPACE, " ").encode()
