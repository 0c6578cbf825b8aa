"""Codes of weights in the layouts that engines read.

Legend: R rows (outputs), C columns (inputs), G groups of a row, B blocks of a row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kleiber.models.stored import Quantized

__all__ = ["blocks_of", "signed", "widened"]

_BLOCK_SIZES = (128, 64, 32, 16)
"""Of MatMulNBits in ONNX Runtime; it takes 256 as well, which is no faster."""

Array = npt.NDArray[Any]


def signed(form: Quantized) -> npt.NDArray[np.int8] | None:
    """Return codes less their zeros, [R, C]; None where they do not fit into eight bits with a sign.

    Example:
        >>> import torch
        >>> codes, one = torch.tensor([[0, 3]], dtype=torch.uint8), torch.ones(1, 1)
        >>> signed(Quantized(codes, one, (2 * one).byte(), num_bits=2)).tolist()
        [[-2, 1]]
    """
    codes_RC, zero_RC = form.codes_RC.numpy().astype(np.int16), _spread(form, form.zero_RG.numpy())
    centred_RC = codes_RC - zero_RC
    if centred_RC.size and (centred_RC.min() < -128 or centred_RC.max() > 127):
        return None
    return centred_RC.astype(np.int8)


def widened(form: Quantized) -> tuple[int, npt.NDArray[np.uint8], npt.NDArray[np.uint8] | None]:
    """Return the next number of bits that engines have, 4 or 8, with codes [R, C] and zeros [R, G] moved into it.

    What is symmetric stays so: its zeros are the middle, and None is returned for them.
    """
    num_bits = 4 if form.num_bits <= 4 else 8
    shift = 2 ** (num_bits - 1) - 2 ** (form.num_bits - 1)
    codes_RC = (form.codes_RC.numpy() + np.uint8(shift)).astype(np.uint8)
    zero_RG = (form.zero_RG.numpy() + np.uint8(shift)).astype(np.uint8)
    return num_bits, codes_RC, None if (zero_RG == 2 ** (num_bits - 1)).all() else zero_RG


def blocks_of(form: Quantized) -> tuple[dict[str, int], Array, Array, Array | None] | None:
    """Return a weight as MatMulNBits reads it: its attributes, codes [R, B, bytes], scales [R x B] and packed zeros.

    A group is cut into blocks that share its scale; None where no block divides it.

    Source:
        ONNX Runtime, docs/ContribOperators.md, com.microsoft.MatMulNBits.
    """
    R, C = form.codes_RC.shape
    num_bits, codes_RC, zero_RG = widened(form)
    group_size = form.group_size if form.scale_RG.shape[1] > 1 else None
    # Of one scale a row any block will do: the largest that is not mostly beyond its end.
    fitting = [one for one in _BLOCK_SIZES if (group_size % one == 0 if group_size else one < 2 * C)]
    if not fitting and group_size:
        return None
    size = fitting[0] if fitting else _BLOCK_SIZES[-1]
    B = -(-C // size)
    padded_RC = np.zeros((R, B * size), np.uint8)
    padded_RC[:, :C] = codes_RC
    owner_B = np.arange(B) * size // (group_size or B * size)
    zeros = None if zero_RG is None else _packed(zero_RG[:, owner_B], num_bits)
    attributes = {"K": C, "N": R, "bits": num_bits, "block_size": size}
    codes = _packed(padded_RC, num_bits).reshape(R, B, size * num_bits // 8)
    return attributes, codes, form.scale_RG.numpy()[:, owner_B].copy(), zeros


def _packed(codes: npt.NDArray[np.uint8], num_bits: int) -> npt.NDArray[np.uint8]:
    """Return the codes of each row in bytes, the first of two in the lower half."""
    if num_bits == 8:
        return codes
    even: npt.NDArray[np.uint8] = np.pad(codes, ((0, 0), (0, codes.shape[1] % 2)))
    packed: npt.NDArray[np.uint8] = even[:, 0::2] | (even[:, 1::2] << np.uint8(4))
    return packed


def _spread(form: Quantized, values_RG: Array) -> Array:
    spread: Array = values_RG.repeat(form.group_size, 1)[:, : form.codes_RC.shape[1]]
    return spread
