"""Heads of keys and values in int8, each with a scale of its own.

Legend: H features of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["decoded_heads", "int8_heads"]

_LARGEST = 127


def int8_heads(x_H: Tensor) -> tuple[Tensor, Tensor]:
    """Return codes [..., H] in int8 and scales [..., 1]: the largest feature of a head gets the code 127.

    A feature is off by half of its head's scale at most. A head of zeros stays zero.

    Args:
        x_H: Heads, the features last.

    Example:
        >>> codes, scale = int8_heads(torch.tensor([[1.27, -0.5], [0.0, 0.0]]))
        >>> codes.tolist(), [round(one, 4) for one in scale.flatten().tolist()]
        ([[127, -50], [0, 0]], [0.01, 0.0])
    """
    scale = x_H.abs().amax(-1, keepdim=True) / _LARGEST
    # Of a head of zeros the quotient is not a number.
    codes = torch.where(scale > 0, x_H / scale, 0).round_().to(torch.int8)
    return codes, scale


def decoded_heads(codes_H: Tensor, scale_1: Tensor) -> Tensor:
    """Return the numbers that codes stand for, [..., H] in the dtype of the scales."""
    return codes_H * scale_1
