"""SparseGPT: what is pruned is made up for by what is kept.

Legend: R rows of a weight, C columns, B columns of a block, H half the Hessian of the squared error of the layer's outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kleiber.compress.prune.masks import Pattern, keep_by_pattern, keep_top

__all__ = ["inverse_factor", "sparsegpt"]

_BLOCK = 128
"""Columns whose mask is chosen together: the middle of the range that the paper finds to be equally good."""
_DAMPING_FRAC = 0.01
"""Of the mean of the diagonal, added to it."""


def sparsegpt(
    W_RC: Tensor,
    H_CC: Tensor,
    *,
    ratio: float | None = None,
    pattern: Pattern | None = None,
    was_kept_RC: Tensor | None = None,
    damping_frac: float = _DAMPING_FRAC,
) -> tuple[Tensor, Tensor]:
    """Return the pruned weight, fp32 [R, C], and which of its entries are kept, bool [R, C].

    Goes through the columns; an entry w of column c that goes, or rather w^2 / [H^-1]_cc of it, is what the error grows by when
    the columns after it make up for it as well as they can. The mask of a block of columns is chosen by that number when the
    block is reached, among all of its rows; a block of N of M is one group.

    Args:
        W_RC: The weight.
        H_CC: Mean of x x^T over the layer's inputs.
        ratio: Share of the entries of each block that goes; or
        pattern: of every M neighbours at most N are kept.
        was_kept_RC: Entries that are zero already and stay so are False, and go first.
        damping_frac: Of the mean of H's diagonal, added to it, so that inputs which calibration did not show cost nothing to
            prune but break nothing.

    Source:
        Frantar and Alistarh 2023, arXiv:2301.00774, algorithm 1; section 3.3 for N:M.
    """
    W_RC = W_RC.to(torch.float32, copy=True)
    U_CC = inverse_factor(H_CC, damping_frac)
    is_kept_RC = torch.ones_like(W_RC, dtype=torch.bool)
    size = _BLOCK if pattern is None else pattern[1]
    for start in range(0, W_RC.shape[1], size):
        block, rest = slice(start, start + size), slice(start + size, None)
        U_BB = U_CC[block, block]
        scores_RB = (W_RC[:, block] / U_BB.diagonal()).square()
        if was_kept_RC is not None:
            scores_RB = scores_RB.masked_fill(~was_kept_RC[:, block], -1.0)
        kept_RB = _chosen(scores_RB, ratio, pattern)
        if was_kept_RC is not None:
            kept_RB &= was_kept_RC[:, block]
        is_kept_RC[:, block] = kept_RB
        W_RC[:, block], errors_RB = _pruned_block(W_RC[:, block], U_BB, kept_RB)
        W_RC[:, rest] -= errors_RB @ U_CC[block, rest]
    return W_RC, is_kept_RC


def inverse_factor(H_CC: Tensor, damping_frac: float) -> Tensor:
    """Return the upper Cholesky factor of the inverse of H, damped, fp32 [C, C].

    Row c of it, over its diagonal entry, is how the columns after c answer to a change of c; the square of that entry is
    [H^-1]_cc of the columns from c on.

    Args:
        H_CC: Symmetric and not negative definite; float64 within, for inputs that hang together make it nearly singular.
        damping_frac: Of the mean of its diagonal, added to it.
    """
    H_CC = H_CC.to(torch.float64)
    mean = float(H_CC.diagonal().mean())
    # Of a layer that saw nothing but zeros every change is free: all entries then count alike.
    damped_CC = H_CC + torch.eye(len(H_CC), dtype=torch.float64) * (damping_frac * mean if mean > 0 else 1.0)
    inverse_CC = torch.cholesky_inverse(torch.linalg.cholesky(damped_CC))
    factor_CC: Tensor = torch.linalg.cholesky(inverse_CC, upper=True)
    return factor_CC.to(torch.float32)


def _chosen(scores_RB: Tensor, ratio: float | None, pattern: Pattern | None) -> Tensor:
    return keep_by_pattern(scores_RB, pattern) if pattern is not None else keep_top(scores_RB, ratio or 0.0)


def _pruned_block(W_RB: Tensor, U_BB: Tensor, kept_RB: Tensor) -> tuple[Tensor, Tensor]:
    """Return the columns of a block pruned from left to right, and what each of them lost over its diagonal entry, [R, B] each."""
    W_RB, errors_RB = W_RB.clone(), torch.zeros_like(W_RB)
    for column in range(W_RB.shape[1]):
        lost_R = W_RB[:, column] * ~kept_RB[:, column] / U_BB[column, column]
        errors_RB[:, column] = lost_R
        # Takes the column itself to zero where it goes; `*` below makes that exact.
        W_RB[:, column:] -= lost_R[:, None] * U_BB[column, column:]
    return W_RB * kept_RB, errors_RB
