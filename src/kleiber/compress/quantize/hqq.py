"""HQQ: scales and zeros for which few weights are missed by much, found without any data.

Legend: R rows, C columns, G groups of a row, S columns of a group.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kleiber.models.stored import Quantized
from kleiber.models.stored.grid import Grid, grouped, quantized, scale_and_zero, spread, storable
from kleiber.models.stored.rounding import RangeOf, min_max_range

__all__ = ["half_quadratic"]

_NORM, _BETA, _KAPPA, _NUM_ROUNDS = 0.7, 10.0, 1.01, 20
"""The exponent p, the weight of the quadratic term and its growth: the values of the source."""


def half_quadratic(W_RC: Tensor, grid: Grid, clip: RangeOf = min_max_range) -> Quantized:
    """Return a weight in few bits by half-quadratic splitting of sum |W - dequantized|^0.7, group by group.

    In turn: what is missed is shrunk to its few large parts, and scale and zero are fitted to the weight without them. The
    source fits real zeros beside a scale that stays; here 0 must have a code of its own, so the zero is rounded and the
    scale is fitted as well, by least squares. What is missed is measured in steps of the scale: the source's constants suit
    numbers near 1. The best of all rounds is kept.

    Args:
        W_RC: Weight, fp32 and finite.
        grid: Bits, groups, symmetry.
        clip: The range that scales and zeros start from.

    Source:
        Badri and Shaji 2023, Half-Quadratic Quantization of Large Machine Learning Models, equations 2 to 5.
    """
    scale_RG, zero_RG = scale_and_zero(*clip(W_RC, grid), grid)
    best_scale_RG, best_zero_RG = scale_RG, zero_RG
    least_RG = _missed(W_RC, scale_RG, zero_RG, grid)
    for number in range(_NUM_ROUNDS):
        scale_RG, zero_RG = _fitted(W_RC, scale_RG, zero_RG, grid, _BETA * _KAPPA**number)
        missed_RG = _missed(W_RC, scale_RG, zero_RG, grid)
        is_better_RG = missed_RG < least_RG
        best_scale_RG = torch.where(is_better_RG, scale_RG, best_scale_RG)
        best_zero_RG = torch.where(is_better_RG, zero_RG, best_zero_RG)
        least_RG = torch.where(is_better_RG, missed_RG, least_RG)
    return quantized(W_RC, best_scale_RG, best_zero_RG, grid)


def _fitted(
    W_RC: Tensor, scale_RG: Tensor, zero_RG: Tensor, grid: Grid, beta: float
) -> tuple[Tensor, Tensor]:
    """Return scale and zero of the weight without the large parts of what is missed."""
    C = W_RC.shape[1]
    size = grid.size(C)
    form, scale_RC = quantized(W_RC, scale_RG, zero_RG, grid), spread(scale_RG, C, size)
    missed_RC = (W_RC - form.dense()) / scale_RC
    target_RC = W_RC - _shrunk(missed_RC, beta) * scale_RC
    codes_RC = form.codes_RC.to(W_RC.dtype)
    if not grid.is_symmetric:
        drift_RC = codes_RC - target_RC / scale_RC
        counts_G = grouped(torch.ones(1, C), size).sum(2)
        zero_RG = (grouped(drift_RC, size).sum(2) / counts_G).round().clamp(0, grid.max_code).to(torch.uint8)
    steps_RC = codes_RC - spread(zero_RG, C, size).to(W_RC.dtype)
    product_RG, square_RG = (grouped(x_RC * steps_RC, size).sum(2) for x_RC in (target_RC, steps_RC))
    fitted_RG = product_RG / square_RG.clamp(min=1.0)  # sums of squares of whole numbers
    return torch.where(fitted_RG > 0, storable(fitted_RG), scale_RG), zero_RG


def _shrunk(x: Tensor, beta: float) -> Tensor:
    """Return the generalized soft threshold of exponent p: the source's equation 4."""
    return x.sign() * (x.abs() - x.abs().clamp(min=1e-8) ** (_NORM - 1) / beta).clamp(min=0.0)


def _missed(W_RC: Tensor, scale_RG: Tensor, zero_RG: Tensor, grid: Grid) -> Tensor:
    D_RC = quantized(W_RC, scale_RG, zero_RG, grid).dense() - W_RC
    return (grouped(D_RC, grid.size(D_RC.shape[1])).abs() ** _NORM).sum(2)
