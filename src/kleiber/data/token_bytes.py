"""How many bytes of text tokens stand for: what losses of different tokenizers are compared by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from kleiber.data.tokenizer import END_OF_TEXT_ID, encoded_pieces

__all__ = ["covered_num_bytes", "token_num_bytes"]


def token_num_bytes(tokenizer: Tokenizer) -> npt.NDArray[np.int32]:
    """Return how many bytes of text each token stands for [vocab_size]; end-of-text stands for none."""
    # Byte-level tokens are spelt with one character a byte.
    sizes = np.zeros(tokenizer.get_vocab_size(), np.int32)
    for name, number in tokenizer.get_vocab().items():
        sizes[number] = len(name)
    sizes[END_OF_TEXT_ID] = 0
    return sizes


def covered_num_bytes(tokenizer: Tokenizer, texts: Sequence[str]) -> npt.NDArray[np.int32]:
    """Return how many bytes of the texts each of their tokens, and the token that ends each text, stands for, [num_tokens].

    By where the tokens stand in the text, so that it holds for any tokenizer: what lies between two tokens, such as a space
    that leaves no token, counts to the later one, and what follows the last token to the end of the text. Of several tokens of
    one character the first counts it.

    Args:
        tokenizer: Any.
        texts: In order.
    """
    counts = [np.empty(0, np.int32)]
    left = 0  # of a piece whose text goes on
    for encoding, piece, is_end in encoded_pieces(tokenizer, texts, has_offsets=True):
        before = _bytes_before(piece)
        ends = np.array([end for _, end in encoding.offsets], np.intp)
        covered = np.diff(before[np.maximum.accumulate(ends)], prepend=0).astype(np.int32)
        rest = int(before[-1] - covered.sum())
        if len(covered):
            covered[0] += left
            left = 0
        left += rest
        counts.append(covered)
        if is_end:
            counts.append(np.array([left], np.int32))
            left = 0
    return np.concatenate(counts)


def _bytes_before(text: str) -> npt.NDArray[np.int64]:
    """Return how many bytes of UTF-8 stand before each character, and in all, [characters + 1]."""
    codes = np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), np.uint32)
    sizes = 1 + (codes > 0x7F).astype(np.int64) + (codes > 0x7FF) + (codes > 0xFFFF)
    return np.concatenate([[0], np.cumsum(sizes)])
