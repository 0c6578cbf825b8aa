"""Round-to-nearest: each weight to the closest number that its group has a code for.

Legend: R rows, C columns, G groups of a row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from kleiber.models.stored.forms import Quantized
from kleiber.models.stored.grid import Grid, grouped, quantized, scale_and_zero

__all__ = ["RangeOf", "min_max_range", "round_to_nearest"]

RangeOf: TypeAlias = Callable[[Tensor, Grid], tuple[Tensor, Tensor]]
"""From weights [R, C] to the least and the greatest that codes stand for, [R, G] each."""


def min_max_range(W_RC: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Return the ends of each group's weights, [R, G] each.

    Example:
        >>> low, high = min_max_range(torch.tensor([[1.0, -2.0, 3.0, 4.0]]), Grid(4, group_size=2))
        >>> low.tolist(), high.tolist()
        ([[-2.0, 3.0]], [[1.0, 4.0]])
    """
    size = grid.size(W_RC.shape[1])
    return grouped(W_RC, size, torch.inf).amin(2), grouped(W_RC, size, -torch.inf).amax(2)


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
