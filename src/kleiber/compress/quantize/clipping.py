"""How far the codes of a group reach: all its weights, or fewer of them in finer steps.

Legend: R rows, C columns, G groups of a row, S columns of a group.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from kleiber.models.stored.grid import Grid, grouped, quantized, scale_and_zero
from kleiber.models.stored.rounding import RangeOf, min_max_range

__all__ = [
    "Clipping",
    "least_error_range",
    "least_output_error_range",
    "percentile_range",
    "range_of",
]

Clipping: TypeAlias = Literal["minmax", "percentile", "mse"]

_SHRINKAGES = tuple(1 - step / 40 for step in range(31))
"""Of the whole range: 1 to 0.25. The best range of a normal variable in 2 bits is 1.5 of its deviations, and the greatest of
a thousand such weights is at 3.2."""


def percentile_range(W_RC: Tensor, grid: Grid, *, percentile: float) -> tuple[Tensor, Tensor]:
    """Return the ends between which the middle `percentile` per cent of each group's weights lie, [R, G] each.

    Example:
        >>> low, high = percentile_range(torch.arange(101.0)[None] - 50, Grid(8), percentile=90.0)
        >>> round(low.item(), 3), round(high.item(), 3)
        (-45.0, 45.0)
    """
    W_RGS = grouped(W_RC, grid.size(W_RC.shape[1]), torch.nan)
    outside = (100 - percentile) / 200
    # sort, not torch.quantile: that refuses more than 16 M numbers
    sorted_RGS = W_RGS.sort(2).values
    last_RG = (~W_RGS.isnan()).sum(2) - 1

    def at(frac: float) -> Tensor:
        place_RG = frac * last_RG
        below_RG, above_RG = (
            sorted_RGS.gather(2, index[..., None].long())[..., 0]
            for index in (place_RG.floor(), place_RG.ceil())
        )
        return torch.lerp(below_RG, above_RG, place_RG - place_RG.floor())

    return at(outside), at(1 - outside)


def least_error_range(W_RC: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Return the part of each group's range that gives the least squared error, [R, G] each."""
    return _searched(W_RC, grid, lambda D_RGS: D_RGS.square().sum(2))


def least_output_error_range(W_RC: Tensor, grid: Grid, H_CC: Tensor) -> tuple[Tensor, Tensor]:
    """Return the part of each group's range that changes least what the group adds to the outputs, [R, G] each.

    Source:
        Lin et al. 2023, AWQ, arXiv:2306.00978, section 4 (weight clipping); inputs enter by their second moments.
    """
    blocks_GSS = _diagonal_blocks(H_CC.to(W_RC.dtype), grid.size(W_RC.shape[1]))
    return _searched(
        W_RC, grid, lambda D_RGS: (torch.einsum("rgs,gst->rgt", D_RGS, blocks_GSS) * D_RGS).sum(2)
    )


def range_of(clipping: Clipping, percentile: float) -> RangeOf:
    """Return the function that a name stands for.

    Args:
        clipping: What is typed.
        percentile: Per cent of the weights within, of that one only.
    """
    if clipping == "percentile":
        return partial(percentile_range, percentile=percentile)
    return min_max_range if clipping == "minmax" else least_error_range


def _searched(W_RC: Tensor, grid: Grid, error_of: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    low_RG, high_RG = min_max_range(W_RC, grid)
    least_RG, best_RG = torch.full_like(low_RG, torch.inf), torch.ones_like(low_RG)
    for shrinkage in _SHRINKAGES:
        scale_RG, zero_RG = scale_and_zero(low_RG * shrinkage, high_RG * shrinkage, grid)
        D_RC = quantized(W_RC, scale_RG, zero_RG, grid).dense() - W_RC
        error_RG = error_of(grouped(D_RC, grid.size(D_RC.shape[1])))
        is_better_RG = error_RG < least_RG
        least_RG = torch.where(is_better_RG, error_RG, least_RG)
        best_RG = torch.where(is_better_RG, shrinkage, best_RG)
    return low_RG * best_RG, high_RG * best_RG


def _diagonal_blocks(H_CC: Tensor, size: int) -> Tensor:
    """Return the part of `H_CC` between columns of one group, [G, S, S]."""
    H_CGS = grouped(H_CC, size)
    H_GSC = H_CGS.permute(1, 2, 0)  # symmetric: columns may be the first dimension
    parts = [grouped(H_SC, size)[:, g] for g, H_SC in enumerate(H_GSC)]
    return torch.stack(parts)
