"""GPTQ: columns are rounded one after another, and those still to come make up for what was lost.

Legend: R rows, C columns, G groups of a row, B columns of a block.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from kleiber.models.stored import Quantized
from kleiber.models.stored.grid import Grid, scale_and_zero
from kleiber.models.stored.rounding import RangeOf, min_max_range

__all__ = ["gptq"]

_BLOCK = 128
"""Columns between updates of all that follow: section 3.3, step 2."""


def gptq(
    W_RC: Tensor,
    H_CC: Tensor,
    grid: Grid,
    *,
    clip: RangeOf = min_max_range,
    damping_frac: float = 0.01,
    has_act_order: bool = True,
    is_kept_RC: Tensor | None = None,
) -> Quantized:
    """Return a weight in few bits that changes the layer's outputs on its inputs less than rounding does.

    Args:
        W_RC: Weight, fp32 and finite.
        H_CC: Mean of x x^T over the layer's inputs.
        grid: Bits, groups, symmetry.
        clip: How far the codes of a group reach.
        damping_frac: Of the mean of the diagonal of `H_CC`, added to it, > 0.
        has_act_order: Round columns of large inputs first. Scales are those of the weights as they were, for the columns of
            a group no longer come together; else they are of the weights as corrected so far.
        is_kept_RC: Where False, a weight is pruned and stays 0; others make up for that too.

    Source:
        Frantar et al. 2022, arXiv:2210.17323, section 3.3, algorithm 1.
    """
    R, C = W_RC.shape
    size = grid.size(C)
    kept_RC = torch.ones_like(W_RC, dtype=torch.bool) if is_kept_RC is None else is_kept_RC
    order_C = H_CC.diagonal().argsort(descending=True, stable=True) if has_act_order else torch.arange(C)
    factor_CC = _inverse_factor(H_CC, order_C, damping_frac).to(W_RC.dtype)
    scale_RG, zero_RG = scale_and_zero(*clip(W_RC, grid), grid)
    V_RC, kept_RC, group_C = W_RC[:, order_C], kept_RC[:, order_C], (order_C // size).tolist()
    codes_RC = torch.empty(R, C, dtype=torch.uint8)
    for start, end in _blocks(C, size):
        if not has_act_order and start % size == 0:
            own = slice(start, min(start + size, C))
            ends = clip(V_RC[:, own] * kept_RC[:, own], Grid(grid.num_bits, None, grid.is_symmetric))
            g = start // size
            scale_RG[:, g : g + 1], zero_RG[:, g : g + 1] = scale_and_zero(*ends, grid)
        lost_RB = torch.empty(R, end - start, dtype=V_RC.dtype)
        for c in range(start, end):
            scale_R, zero_R = scale_RG[:, group_C[c]], zero_RG[:, group_C[c]].to(V_RC.dtype)
            code_R = ((V_RC[:, c] / scale_R).round() + zero_R).clamp(0, grid.max_code)
            code_R = torch.where(kept_RC[:, c], code_R, zero_R)
            lost_R = (V_RC[:, c] - (code_R - zero_R) * scale_R) / factor_CC[c, c]
            V_RC[:, c + 1 : end] -= torch.outer(lost_R, factor_CC[c, c + 1 : end])
            codes_RC[:, c], lost_RB[:, c - start] = code_R.to(torch.uint8), lost_R
        V_RC[:, end:] -= lost_RB @ factor_CC[start:end, end:]
    return Quantized(codes_RC[:, order_C.argsort()], scale_RG, zero_RG, grid.num_bits, size)


def _inverse_factor(H_CC: Tensor, order_C: Tensor, damping_frac: float) -> Tensor:
    """Return the upper Cholesky factor of the damped inverse of `H_CC`, in the order of the columns."""
    H_CC = H_CC.double()[order_C][:, order_C]
    # Inputs that are all zero ask nothing of the weights: any damping will do.
    damping = damping_frac * float(H_CC.diagonal().mean()) or 1.0
    H_CC.diagonal().add_(damping)
    inverse_CC = torch.cholesky_inverse(torch.linalg.cholesky(H_CC))
    factor_CC: Tensor = torch.linalg.cholesky(inverse_CC, upper=True)
    return factor_CC


def _blocks(num_columns: int, group_size: int) -> Iterator[tuple[int, int]]:
    """Yield where blocks start and end; each group begins a block, so that it sees all corrections before it.

    Example:
        >>> list(_blocks(300, 200))
        [(0, 128), (128, 200), (200, 300)]
    """
    for first in range(0, num_columns, group_size):
        last = min(first + group_size, num_columns)
        for start in range(first, last, _BLOCK):
            yield start, min(start + _BLOCK, last)
