"""Mixtures of experts on fake tensors.

transformers sorts tokens by expert and multiplies each group by its expert's weights in one operation, whose shapes
do not depend on what the router decides. torch's rule for the shapes of that operation speaks for one GPU kernel and
refuses fp32; the CPU's kernel takes it.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

__all__ = ["let_experts_be_traced"]

_ALIGNMENT_BYTES = 16


@cache
def let_experts_be_traced() -> None:
    """Give fake tensors the grouped product in every precision; real tensors are not touched."""
    torch.library.register_fake("aten::_grouped_mm", _grouped_product)


def _grouped_product(
    mat_a: Tensor,
    mat_b: Tensor,
    offs: Tensor | None = None,
    bias: Tensor | None = None,  # noqa: ARG001 - the signature is torch's
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    """Return an empty result: rows in groups times a matrix for each, or one matrix for each group of columns."""
    rows, columns = mat_a.shape[-2], mat_b.shape[-1]
    if mat_a.ndim != mat_b.ndim:
        shape: tuple[int, ...] = (rows, columns)
    else:  # a batch of products, or groups of the inner dimension
        shape = (len(mat_a) if offs is None else len(offs), rows, columns)
    dtype = out_dtype or mat_a.dtype
    # Rows begin at multiples of 16 bytes.
    step = _ALIGNMENT_BYTES // dtype.itemsize
    padded = math.ceil(columns / step) * step
    strides = (rows * padded, padded, 1)[-len(shape) :]
    return torch.empty_strided(shape, strides, dtype=dtype, device=mat_a.device)
