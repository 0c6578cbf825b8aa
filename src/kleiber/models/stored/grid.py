"""The numbers that few bits can stand for, and the nearest of them to a weight.

Legend: R rows, C columns, G groups of a row, S columns of a group.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from kleiber.models.stored.forms import Quantized

__all__ = ["Grid", "grouped", "output_error", "quantized", "scale_and_zero", "spread", "storable"]

_FP16_NORMAL_MIN, _FP16_MAX = 2.0**-14, 65504.0
_FP16_DIGITS = 2.0**11


@dataclass(frozen=True)
class Grid:
    """How many bits a weight has, and which weights share a scale."""

    num_bits: int
    """2 to 8."""
    group_size: int | None = None
    """So many columns of a row share a scale, the last ones perhaps fewer; None: all of a row."""
    is_symmetric: bool = True
    """Whether the middle code stands for 0, so that no zero is stored."""

    @property
    def max_code(self) -> int:
        """The greatest code, the least is 0."""
        return int(2**self.num_bits) - 1

    def num_groups(self, num_columns: int) -> int:
        """Return the groups of a row.

        Example:
            >>> Grid(4, group_size=64).num_groups(172), Grid(4).num_groups(172)
            (3, 1)
        """
        return -(-num_columns // self.size(num_columns))

    def size(self, num_columns: int) -> int:
        """Return the columns of a group.

        Example:
            >>> Grid(4, group_size=64).size(172), Grid(4).size(172)
            (64, 172)
        """
        return min(self.group_size or num_columns, num_columns)


def grouped(W_RC: Tensor, size: int, fill: float = 0.0) -> Tensor:
    """Return the groups of each row, [R, G, S]; a last group that is shorter ends in `fill`.

    Example:
        >>> grouped(torch.tensor([[1.0, 2.0, 3.0]]), 2).tolist()
        [[[1.0, 2.0], [3.0, 0.0]]]
    """
    R, C = W_RC.shape
    return pad(W_RC, (0, -C % size), value=fill).view(R, -1, size)


def spread(x_RG: Tensor, num_columns: int, size: int) -> Tensor:
    """Return what each column has of its group, [R, C].

    Example:
        >>> spread(torch.tensor([[1, 2]]), 3, size=2).tolist()
        [[1, 1, 2]]
    """
    return x_RG.repeat_interleave(size, 1)[:, :num_columns]


def scale_and_zero(low_RG: Tensor, high_RG: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Return the scale [fp32] and the code of 0 [uint8] with which a grid reaches from low to high, [R, G] each.

    A symmetric grid puts half a step beyond its ends: with codes -8..7 and scale max / 7.5 neither end is missed by more
    than half a step. Scales are rounded up to what fp16 holds, so that no end is left out and files lose nothing.

    Args:
        low_RG: The least weight of each group; 0 is always within.
        high_RG: The greatest.
        grid: Bits and symmetry.

    Example:
        >>> scale, zero = scale_and_zero(torch.tensor([[-1.0]]), torch.tensor([[2.0]]), Grid(2, is_symmetric=False))
        >>> scale.item(), zero.item()
        (1.0, 1)
    """
    low_RG, high_RG = low_RG.clamp(max=0.0), high_RG.clamp(min=0.0)
    if grid.is_symmetric:
        scale_RG = torch.maximum(-low_RG, high_RG) / (grid.max_code / 2)
    else:
        scale_RG = (high_RG - low_RG) / grid.max_code
    scale_RG = storable(scale_RG)
    if grid.is_symmetric:
        return scale_RG, torch.full_like(scale_RG, 2 ** (grid.num_bits - 1), dtype=torch.uint8)
    return scale_RG, (-low_RG / scale_RG).round().clamp(0, grid.max_code).to(torch.uint8)


def storable(scale: Tensor) -> Tensor:
    """Return positive scales that fp16 holds exactly, the next above; outside the normal numbers of fp16 as they are.

    Example:
        >>> storable(torch.tensor([1.0, 1.0001, 0.0])).tolist()
        [1.0, 1.0009765625, 1.0]
    """
    mantissa, exponent = torch.frexp(scale)
    rounded = torch.ldexp((mantissa * _FP16_DIGITS).ceil() / _FP16_DIGITS, exponent)
    is_normal = (scale >= _FP16_NORMAL_MIN) & (rounded <= _FP16_MAX)
    # A group of zeros is all zero codes whatever its scale.
    tiny = torch.finfo(scale.dtype).tiny
    return torch.where(is_normal, rounded, torch.where(scale > 0, scale.clamp(min=tiny), 1.0))


def quantized(W_RC: Tensor, scale_RG: Tensor, zero_RG: Tensor, grid: Grid) -> Quantized:
    """Return the nearest codes to a weight; 0 becomes the zero code, exactly."""
    C = W_RC.shape[1]
    size = grid.size(C)
    steps_RC = (W_RC / spread(scale_RG, C, size)).round() + spread(zero_RG, C, size)
    codes_RC = steps_RC.clamp(0, grid.max_code).to(torch.uint8)
    return Quantized(codes_RC, scale_RG, zero_RG, grid.num_bits, size)


def output_error(W_RC: Tensor, V_RC: Tensor, H_CC: Tensor) -> float:
    """Return the mean squared change of a layer's outputs, summed over them, when `V_RC` replaces `W_RC`: tr(D H D^T).

    Args:
        W_RC: Weight.
        V_RC: Its replacement.
        H_CC: Mean of x x^T over the layer's inputs.

    Example:
        >>> output_error(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 1.0]]), torch.diag(torch.tensor([5.0, 3.0])))
        3.0
    """
    D_RC = (V_RC - W_RC).double()
    return float(((D_RC @ H_CC.double()) * D_RC).sum())
