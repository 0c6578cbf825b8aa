"""Codes of weights in the blocks of 32 that GGUF holds.

Legend: R rows, C columns, G groups of a row, N blocks of a row, 32 columns of a block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from kleiber.infer.lowering.codes import signed, widened
from kleiber.models.stored import Quantized

__all__ = ["BLOCK", "BlockKind", "Blocks", "blocks_of"]

BLOCK = 32
"""Columns that share a scale."""
BlockKind = Literal["Q8_0", "Q4_0", "Q4_1"]
"""Eight bits with a sign; four bits around their middle; four bits with a scale and a least value."""


@dataclass(frozen=True)
class Blocks:
    """A weight as GGUF stores it."""

    kind: BlockKind
    bytes_RY: npt.NDArray[np.uint8]
    """The bytes of each row, block after block."""


def blocks_of(form: Quantized) -> Blocks | None:
    """Return the codes of a weight in blocks, the very same codes; None where no block holds them.

    Scales become fp16, which is all that a block has room for. Codes of up to 4 bits go to `Q4_0` where they are symmetric and
    to `Q4_1` else, those of more bits to `Q8_0`, their zeros taken off.

    Source:
        ggml, ggml-common.h: `block_q4_0`, `block_q4_1`, `block_q8_0`.

    Example:
        >>> import torch
        >>> codes = torch.full((1, 32), 129, dtype=torch.uint8)
        >>> found = blocks_of(Quantized(codes, torch.ones(1, 1), torch.tensor([[128]], dtype=torch.uint8), num_bits=8))
        >>> found.kind, found.bytes_RY[0, :4].tolist()  # 1.0 in fp16 is 0x3C00, little end first; then 129 - 128
        ('Q8_0', [0, 60, 1, 1])
    """
    C, G = form.codes_RC.shape[1], form.scale_RG.shape[1]
    if C % BLOCK or (G > 1 and form.group_size % BLOCK):
        return None
    group_N = np.arange(C // BLOCK) * BLOCK // (form.group_size if G > 1 else C)
    scale_RN = form.scale_RG.numpy()[:, group_N]
    if form.num_bits > 4:
        signed_RC = signed(form)
        return None if signed_RC is None else Blocks("Q8_0", _eight_bits(signed_RC, scale_RN))
    _, codes_RC, zero_RG = widened(form)
    if zero_RG is None:
        return Blocks("Q4_0", _joined(_half(scale_RN), _nibbles(codes_RC)))
    least_RN = -scale_RN * zero_RG[:, group_N]
    return Blocks("Q4_1", _joined(_half(scale_RN), _half(least_RN), _nibbles(codes_RC)))


def _eight_bits(codes_RC: npt.NDArray[np.int8], scale_RN: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    rows, num_blocks = scale_RN.shape
    return _joined(_half(scale_RN), codes_RC.reshape(rows, num_blocks, BLOCK).view(np.uint8))


def _half(values_RN: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return numbers as the two bytes of fp16, [R, N, 2]."""
    halves: npt.NDArray[np.uint8] = values_RN.astype("<f2")[..., None].view(np.uint8)
    return halves


def _nibbles(codes_RC: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return codes of four bits in bytes, [R, N, 16]: of a block the first half in the lower bits, the second in the upper."""
    rows, columns = codes_RC.shape
    halves = codes_RC.reshape(rows, columns // BLOCK, 2, BLOCK // 2)
    packed: npt.NDArray[np.uint8] = halves[:, :, 0] | (halves[:, :, 1] << np.uint8(4))
    return packed


def _joined(*parts_RNY: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    joined: npt.NDArray[np.uint8] = np.concatenate(parts_RNY, axis=2)
    return joined.reshape(len(joined), -1)
