"""AWQ: columns that meet large inputs are made larger before rounding, and their inputs smaller.

Legend: R rows, C columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kleiber.models.stored.grid import Grid, output_error
from kleiber.models.stored.rounding import round_to_nearest

__all__ = ["channel_scales"]

_EXPONENTS = tuple(step / 20 for step in range(1, 20))
"""Of the inputs' size: section 3.2 searches [0, 1], whose 0 changes nothing."""


def channel_scales(weights: Sequence[tuple[Tensor, Grid]], H_CC: Tensor) -> Tensor | None:
    """Return what to multiply each column by, [C], before it is rounded; None where nothing is better than rounding alone.

    The size of an input is the root of its mean square (the source: mean of its absolute value). Columns times scales and
    inputs through them give the same outputs; the caller divides what makes the inputs.

    Args:
        weights: Those that read the same input, [R, C] each, and how each will be rounded.
        H_CC: Mean of x x^T over the inputs.

    Source:
        Lin et al. 2023, arXiv:2306.00978, section 3.2, equations 4 and 5.
    """
    size_C = H_CC.diagonal().to(torch.float32).sqrt()
    if not float(size_C.max()) > 0:
        return None
    # An input that was never seen other than 0 gets the least of the others' scales.
    size_C = size_C.clamp(min=float(size_C[size_C > 0].min()))
    best, least = None, _error_after(weights, torch.ones_like(size_C), H_CC)
    for exponent in _EXPONENTS:
        scale_C = size_C**exponent
        scale_C = scale_C / (scale_C.max() * scale_C.min()).sqrt()
        error = _error_after(weights, scale_C, H_CC)
        if error < least:
            best, least = scale_C, error
    return best


def _error_after(weights: Sequence[tuple[Tensor, Grid]], scale_C: Tensor, H_CC: Tensor) -> float:
    return sum(
        output_error(W_RC, round_to_nearest(W_RC * scale_C, grid).dense() / scale_C, H_CC)
        for W_RC, grid in weights
    )
