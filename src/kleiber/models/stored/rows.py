"""Forms taken apart and put together along the rows of their weight: what a family fuses, its files hold apart.

Legend: as in `forms`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from kleiber.models.stored.forms import Form, LowRank, Masked, Quantized

__all__ = ["join_rows", "rows_of"]


def rows_of(form: Form, rows: slice) -> Form:
    """Return the form of some rows of a weight; two thin factors keep the same right one.

    Example:
        >>> form = Masked(torch.tensor([[True, False], [False, False], [True, True]]))
        >>> rows_of(form, slice(1, 3)).is_kept_RC
        tensor([[False, False],
                [ True,  True]])
    """
    if isinstance(form, Masked):
        return Masked(form.is_kept_RC[rows], form.pattern)
    if isinstance(form, Quantized):
        return _quantized_rows(form, rows)
    left = form.left_RK
    part = _quantized_rows(left, rows) if isinstance(left, Quantized) else left[rows]
    return LowRank(part, form.right_KC)


def join_rows(parts: Sequence[Form]) -> Form | None:
    """Return the form of a weight whose rows have these, the inverse of `rows_of`; None where there is none.

    That is where the parts differ in kind, in bits, in groups, in their pattern of zeros or in their right factor.
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    if isinstance(first, Quantized):
        return _join_quantized(parts)
    if isinstance(first, Masked):
        masked = [part for part in parts if isinstance(part, Masked) and part.pattern == first.pattern]
        masks = [part.is_kept_RC for part in masked]
        return Masked(torch.cat(masks), first.pattern) if len(masks) == len(parts) else None
    factors = [part for part in parts if isinstance(part, LowRank) and part.right_KC is first.right_KC]
    left = _join_factors([part.left_RK for part in factors])
    return LowRank(left, first.right_KC) if len(factors) == len(parts) and left is not None else None


def _quantized_rows(form: Quantized, rows: slice) -> Quantized:
    return dataclasses.replace(
        form, codes_RC=form.codes_RC[rows], scale_RG=form.scale_RG[rows], zero_RG=form.zero_RG[rows]
    )


def _join_quantized(parts: Sequence[object]) -> Quantized | None:
    same = [part for part in parts if isinstance(part, Quantized)]
    sizes = {(part.num_bits, part.group_size) for part in same}
    if len(same) < len(parts) or len(sizes) > 1:
        return None
    return Quantized(
        codes_RC=torch.cat([part.codes_RC for part in same]),
        scale_RG=torch.cat([part.scale_RG for part in same]),
        zero_RG=torch.cat([part.zero_RG for part in same]),
        num_bits=same[0].num_bits,
        group_size=same[0].group_size,
    )


def _join_factors(lefts: Sequence[Tensor | Quantized]) -> Tensor | Quantized | None:
    dense = [left for left in lefts if isinstance(left, Tensor)]
    return torch.cat(dense) if len(dense) == len(lefts) else _join_quantized(lefts)
