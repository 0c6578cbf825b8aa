"""What is left of a weight takes over what its cut columns gave.

Legend: R rows of a weight, C its columns; the kept ones k, the others r.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["refitted"]

_DAMPING = 0.01
"""Of the mean square of the kept inputs: how far weights stay where they were in directions that were hardly seen."""


def refitted(weight_RC: Tensor, second_CC: Tensor, is_kept_C: Tensor, *, damping: float = _DAMPING) -> Tensor:
    """Return a weight whose kept columns give the best guess of what all columns gave, and whose others are 0.

    The kept columns minimize the mean of |W x - W' x_k|^2 + damping m |W' - W_k|^2, m the mean square of an input:
    W' = W_k + W_r H_rk (H_kk + damping m I)^-1. Where the other inputs were always 0 nothing changes.

    Args:
        weight_RC: Of the layer.
        second_CC: H, the mean of x x^T over what enters the layer.
        is_kept_C: Which columns stay.
        damping: See above.

    Source:
        Luo et al. 2017, "ThiNet", arXiv:1707.06342, equation 7; the damping draws to the weights, not to 0.

    Example:
        >>> twins = torch.ones(2, 2)  # the second input is always the first
        >>> refitted(torch.tensor([[1.0, 2.0]]), twins, torch.tensor([True, False]), damping=0.0)
        tensor([[3., 0.]])
    """
    kept, rest = is_kept_C.nonzero().flatten(), (~is_kept_C).nonzero().flatten()
    fitted_RC = weight_RC.double().clone()
    H = second_CC.double()
    H_kk, H_rk = H[kept][:, kept], H[rest][:, kept]
    mean_square = H_kk.diagonal().mean()
    if len(rest) and mean_square > 0:
        H_kk = H_kk + damping * mean_square * torch.eye(len(kept), dtype=torch.float64)
        fitted_RC[:, kept] += fitted_RC[:, rest] @ torch.linalg.solve(H_kk, H_rk.T).T
    fitted_RC[:, rest] = 0
    return fitted_RC.to(weight_RC.dtype)
