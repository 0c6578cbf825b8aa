"""Codes of a few bits laid end to end in words of 32 bits, and masks in bytes.

Legend: R rows, C columns, W words of a row, Y bytes of a row.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["num_words", "pack", "pack_mask", "unpack", "unpack_mask"]

_WORD_BITS = 32
_WORD_BYTES = 4


def num_words(num_columns: int, num_bits: int) -> int:
    """Return the words of a row.

    Example:
        >>> num_words(11, 3), num_words(10, 3)
        (2, 1)
    """
    return -(-num_columns * num_bits // _WORD_BITS)


def pack(codes_RC: Tensor, num_bits: int) -> Tensor:
    """Return the codes of each row end to end, lowest bits first, int32 [R, W]; the last word is filled up with zeros.

    A code of 3, 5, 6 or 7 bits may lie across two words, so that none of their bits is lost. This is how compressed-tensors
    0.20 has it; older releases begin a new word there.

    Args:
        codes_RC: 0 to 2^num_bits - 1, uint8.
        num_bits: 1 to 8.

    Example:
        >>> pack(torch.tensor([[1, 2, 3]], dtype=torch.uint8), 4)  # 0x321
        tensor([[801]], dtype=torch.int32)
    """
    R, C = codes_RC.shape
    bits = np.unpackbits(codes_RC.numpy()[..., None], axis=-1, count=num_bits, bitorder="little")
    packed_RY = np.packbits(bits.reshape(R, C * num_bits), axis=-1, bitorder="little")
    whole_RY = np.pad(packed_RY, ((0, 0), (0, -packed_RY.shape[1] % _WORD_BYTES)))
    return torch.from_numpy(whole_RY.view("<i4").astype(np.int32))


def unpack(words_RW: Tensor, num_bits: int, num_columns: int) -> Tensor:
    """Return the codes that `pack` laid end to end, uint8 [R, C].

    Example:
        >>> unpack(torch.tensor([[801]], dtype=torch.int32), 4, 3)
        tensor([[1, 2, 3]], dtype=torch.uint8)
    """
    packed_RY = np.ascontiguousarray(words_RW.numpy()).astype("<i4").view(np.uint8)
    bits = np.unpackbits(packed_RY, axis=-1, count=num_columns * num_bits, bitorder="little")
    codes = np.packbits(bits.reshape(-1, num_columns, num_bits), axis=-1, bitorder="little")
    return torch.from_numpy(codes[..., 0].copy())


def pack_mask(mask_RC: Tensor) -> Tensor:
    """Return a bit for each entry, lowest first, uint8 [R, Y].

    Example:
        >>> pack_mask(torch.tensor([[True, False, True]]))
        tensor([[5]], dtype=torch.uint8)
    """
    return torch.from_numpy(np.packbits(mask_RC.numpy(), axis=-1, bitorder="little"))


def unpack_mask(bits_RY: Tensor, num_columns: int) -> Tensor:
    """Return the mask of `pack_mask`, bool [R, C]."""
    bits = np.unpackbits(bits_RY.numpy(), axis=-1, count=num_columns, bitorder="little")
    return torch.from_numpy(bits.astype(bool))
