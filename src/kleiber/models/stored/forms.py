"""How a weight is stored when it is not a plain table of numbers: in few bits, with its zeros left out, as two thin factors.

Legend: R rows (outputs), C columns (inputs; a kernel's channels and pixels laid out in a row), G groups of a row, K rank.
A weight of any shape is seen as [R, C]: its first dimension, and all others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

__all__ = ["Form", "Forms", "LowRank", "Masked", "Quantized", "dense_of"]


@dataclass(frozen=True)
class Quantized:
    """A weight in few bits: (code - zero) x scale, with a scale and a zero for each group of a row.

    A zero of the weight is exactly representable, so that what was pruned stays pruned.
    """

    codes_RC: Tensor
    """0 to 2^num_bits - 1, uint8."""
    scale_RG: Tensor
    """fp32, positive."""
    zero_RG: Tensor
    """The code that stands for 0, uint8; 2^(num_bits - 1) everywhere where the numbers are symmetric."""
    num_bits: int
    """2 to 8."""
    group_size: int = 0
    """Columns that share a scale, the last group of a row may have fewer; 0 becomes the size that spreads them evenly."""

    def __post_init__(self) -> None:
        C, G = self.codes_RC.shape[1], self.scale_RG.shape[1]
        if not self.group_size:
            object.__setattr__(self, "group_size", -(-C // G))
        if -(-C // self.group_size) != G:
            raise ValueError(f"{C} columns in groups of {self.group_size} have no {G} scales a row")

    @property
    def is_symmetric(self) -> bool:
        """Whether the middle code stands for 0 in all groups: no zeros need be stored."""
        return bool((self.zero_RG == 2 ** (self.num_bits - 1)).all())

    def dense(self) -> Tensor:
        """Return the weight that the codes stand for, fp32 [R, C]."""
        C = self.codes_RC.shape[1]
        spread = (part.repeat_interleave(self.group_size, 1)[:, :C] for part in (self.scale_RG, self.zero_RG))
        scale_RC, zero_RC = spread
        return (self.codes_RC.float() - zero_RC.float()) * scale_RC


@dataclass(frozen=True)
class Masked:
    """A weight of which some entries are 0 and are to stay so; the others are the module's."""

    is_kept_RC: Tensor
    """bool."""
    pattern: tuple[int, int] | None = None
    """N of M: at most N of every M neighbours in a row are kept; None of no such order."""


@dataclass(frozen=True)
class LowRank:
    """A weight as the product of two thin ones, either of which may be quantized."""

    left_RK: Tensor | Quantized
    right_KC: Tensor | Quantized

    def dense(self) -> Tensor:
        """Return the product, fp32 [R, C]."""
        return dense_of(self.left_RK) @ dense_of(self.right_KC)


Form: TypeAlias = Quantized | Masked | LowRank
Forms: TypeAlias = dict[str, Form]
"""By the name that `named_parameters` has for the weight; one that is absent is stored as it is."""


def dense_of(weight: Tensor | Quantized) -> Tensor:
    """Return a weight as fp32 [R, C]."""
    return weight.dense() if isinstance(weight, Quantized) else weight.to(torch.float32)
