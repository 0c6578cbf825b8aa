"""Round-to-nearest: each weight to the closest number that its group has a code for."""

from __future__ import annotations

from torch import Tensor

from kleiber.compress.quantize.clipping import RangeOf, min_max_range
from kleiber.compress.quantize.grid import Grid, quantized, scale_and_zero
from kleiber.models.stored import Quantized

__all__ = ["round_to_nearest"]


def round_to_nearest(W_RC: Tensor, grid: Grid, clip: RangeOf = min_max_range) -> Quantized:
    """Return a weight in few bits; where `clip` leaves nothing out, none is missed by more than half a step.

    Args:
        W_RC: Weight, fp32 and finite.
        grid: Bits, groups, symmetry.
        clip: How far the codes of a group reach.

    Example:
        >>> import torch
        >>> W_RC = torch.tensor([[-1.0, 0.0, 0.4, 2.0]])
        >>> form = round_to_nearest(W_RC, Grid(2, is_symmetric=False))
        >>> form.codes_RC.tolist(), form.dense().tolist()
        ([[0, 1, 1, 3]], [[-1.0, 0.0, 0.0, 2.0]])
    """
    scale_RG, zero_RG = scale_and_zero(*clip(W_RC, grid), grid)
    return quantized(W_RC, scale_RG, zero_RG, grid)
