"""A weight that keeps how it is stored while it is trained: what is trained, and the weight that comes of it.

Legend: R rows, C columns, K rank of factors, L directions of LoRA.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kleiber.models.stored import Form, LowRank, Masked, Quantized, dense_of
from kleiber.train.recover.rounding import LearnedRounding

__all__ = ["Directions", "TrainedWeight", "trained_weight"]


@dataclass(frozen=True)
class Directions:
    """LoRA's settings."""

    rank: int
    alpha: float
    generator: torch.Generator
    """Draws where the directions begin."""


class _Latent(nn.Module):
    """A matrix that is trained: all of it, or a few directions that are added to it."""

    def __init__(self, start_RC: Tensor, directions: Directions | None) -> None:
        super().__init__()
        self._scale = 0.0
        if directions is None:
            self.whole_RC = nn.Parameter(start_RC.clone())
            return
        (R, C), L = start_RC.shape, directions.rank
        self._scale = directions.alpha / L
        # Not in checkpoints: the model that training began with holds it.
        self.register_buffer("fixed_RC", start_RC.clone(), persistent=False)
        bound = math.sqrt(3 / C)
        self.into_LC = nn.Parameter(torch.empty(L, C).uniform_(-bound, bound, generator=directions.generator))
        self.out_of_RL = nn.Parameter(torch.zeros(R, L))

    def forward(self) -> Tensor:
        """Return the matrix, [R, C]."""
        if not self._scale:
            return self.whole_RC
        return self.get_buffer("fixed_RC") + self._scale * (self.out_of_RL @ self.into_LC)


class TrainedWeight(nn.Module, ABC):
    """Gives the weight that its tensors stand for."""

    @abstractmethod
    def forward(self) -> Tensor:
        """Return the weight, [R, C]: what is stored will give the same bits."""

    @abstractmethod
    def stored(self) -> Form | None:
        """Return how it is stored; None of a plain table."""


class _Plain(TrainedWeight):
    def __init__(self, start_RC: Tensor, directions: Directions | None) -> None:
        super().__init__()
        self.latent = _Latent(start_RC, directions)

    def forward(self) -> Tensor:
        weight_RC: Tensor = self.latent()
        return weight_RC

    def stored(self) -> Form | None:
        return None


class _Sparse(TrainedWeight):
    def __init__(self, start_RC: Tensor, form: Masked, directions: Directions | None) -> None:
        super().__init__()
        self._form = form
        self.latent = _Latent(start_RC, directions)
        self.register_buffer("kept_RC", form.is_kept_RC, persistent=False)

    def forward(self) -> Tensor:
        # Not a product with the mask: that would leave -0 where the latent is negative.
        return torch.where(self.get_buffer("kept_RC"), self.latent(), 0.0)

    def stored(self) -> Form | None:
        return self._form


class _Rounded(TrainedWeight):
    def __init__(self, start: Quantized, directions: Directions | None, *, keeps_zeros: bool) -> None:
        super().__init__()
        self.latent = _Latent(start.dense(), directions)
        self.rounding = LearnedRounding(start)
        zero_RC = start.zero_RG.repeat_interleave(start.group_size, 1)[:, : start.codes_RC.shape[1]]
        is_free_RC = start.codes_RC != zero_RC if keeps_zeros else torch.ones_like(zero_RC, dtype=torch.bool)
        self.register_buffer("free_RC", is_free_RC, persistent=False)

    def _latent(self) -> Tensor:
        return torch.where(self.get_buffer("free_RC"), self.latent(), 0.0)

    def forward(self) -> Tensor:
        weight_RC: Tensor = self.rounding(self._latent())
        return weight_RC

    def stored(self) -> Quantized:
        return self.rounding.stored(self._latent())


class _Factored(TrainedWeight):
    def __init__(self, start: LowRank, directions: Directions | None, *, keeps_zeros: bool) -> None:
        super().__init__()
        self.left, self.right = (
            _Rounded(factor, directions, keeps_zeros=keeps_zeros)
            if isinstance(factor, Quantized)
            else _Plain(factor, directions)
            for factor in (start.left_RK, start.right_KC)
        )

    def forward(self) -> Tensor:
        weight_RC: Tensor = self.left() @ self.right()
        return weight_RC

    @torch.no_grad()
    def stored(self) -> LowRank:
        return LowRank(*(self._factor(one) for one in (self.left, self.right)))

    @staticmethod
    def _factor(one: _Rounded | _Plain) -> Tensor | Quantized:
        return one.stored() if isinstance(one, _Rounded) else one().detach().clone()


def trained_weight(
    weight_RC: Tensor, form: Form | None, directions: Directions | None, *, keeps_zeros: bool
) -> TrainedWeight:
    """Return what trains a weight and keeps its form; it starts as that very weight.

    Args:
        weight_RC: As the module holds it.
        form: How it is stored; None of a plain table.
        directions: Of LoRA; None trains all of it. Those of two factors are added to each, so that the rank stays.
        keeps_zeros: Whether zeros of codes stay zero.
    """
    if isinstance(form, Masked):
        return _Sparse(weight_RC, form, directions)
    if isinstance(form, Quantized):
        return _Rounded(form, directions, keeps_zeros=keeps_zeros)
    if isinstance(form, LowRank):
        whole = LowRank(
            *(f if isinstance(f, Quantized) else dense_of(f) for f in (form.left_RK, form.right_KC))
        )
        return _Factored(whole, directions, keeps_zeros=keeps_zeros)
    return _Plain(weight_RC, directions)
