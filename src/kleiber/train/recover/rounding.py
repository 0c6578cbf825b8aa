"""Rounding that gradients pass: what is trained is the weight before it and the scale, what counts is what comes out.

Legend: R rows, C columns, G groups of a row.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from kleiber.models.stored import Quantized

__all__ = ["LearnedRounding", "storable", "straight_through"]

_LEAST_EXACT, _MOST = 2.0**-14, 65504.0
"""The least number that fp16 holds in full precision, and its largest."""


class _StraightThrough(torch.autograd.Function):
    """Gives out one tensor and takes the gradient to another."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, shown: Tensor) -> Tensor:
        del ctx, value
        return shown.view_as(shown)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        del ctx
        return gradient, None


def straight_through(value: Tensor, shown: Tensor) -> Tensor:
    """Return `shown` with the gradient of `value`.

    Source:
        Bengio et al. 2013, arXiv:1308.3432.

    Example:
        >>> x = torch.tensor(2.4, requires_grad=True)
        >>> y = straight_through(x, x.round()) * 3
        >>> y.backward()
        >>> y.item(), x.grad.item()
        (6.0, 3.0)
    """
    return cast("Tensor", _StraightThrough.apply(value, shown.detach()))  # type: ignore[no-untyped-call] # torch's


def storable(scale: Tensor) -> Tensor:
    """Return scales rounded to what fp16 holds, those that it holds badly as they are.

    Example:
        >>> storable(torch.tensor([0.1, 1e-6])).tolist() == [0.0999755859375, torch.tensor(1e-6).item()]
        True
    """
    is_held = (scale >= _LEAST_EXACT) & (scale <= _MOST)
    return torch.where(is_held, scale.half().float(), scale)


class LearnedRounding(nn.Module):
    """Rounds a matrix to codes as a quantized one has them, its scales trained.

    The scale's gradient is that of LSQ: what rounding added where a number is within the codes' range, the code's bound
    beyond. Trained is the logarithm of what the scale is multiplied by: a step is a part of the scale, however small it is.

    Args:
        start: Gives bits, zeros and the scales to begin with.

    Source:
        Esser et al. 2020, arXiv:1902.08153, equations 1 to 3, and section 2.2 for the size of the scale's gradient.
    """

    def __init__(self, start: Quantized) -> None:
        super().__init__()
        self.num_bits, self.group_size = start.num_bits, start.group_size
        self.log_gain_RG = nn.Parameter(torch.zeros_like(start.scale_RG))
        self.register_buffer("start_RG", start.scale_RG.clone(), persistent=False)
        self.register_buffer("zero_RG", start.zero_RG.float(), persistent=False)
        # A model whose scales another tool chose in fp32 is not changed before the first step.
        self._is_fp16 = torch.equal(storable(start.scale_RG), start.scale_RG)
        self._gradient_frac = 1 / math.sqrt(start.group_size * (2**start.num_bits - 1))

    def forward(self, latent_RC: Tensor) -> Tensor:
        """Return the matrix that the codes stand for, [R, C]."""
        codes_RC, scale_RC, zero_RC = self._rounded(latent_RC)
        return (codes_RC - zero_RC) * scale_RC

    @torch.no_grad()
    def stored(self, latent_RC: Tensor) -> Quantized:
        """Return the same matrix as it is stored."""
        codes_RC, _, _ = self._rounded(latent_RC)
        zero_RG = self.get_buffer("zero_RG").to(torch.uint8)
        return Quantized(codes_RC.to(torch.uint8), self._scale(), zero_RG, self.num_bits, self.group_size)

    def _rounded(self, latent_RC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        C = latent_RC.shape[1]
        scale_RC, zero_RC = (
            part.repeat_interleave(self.group_size, 1)[:, :C]
            for part in (self._scale(), self.get_buffer("zero_RG"))
        )
        ratio_RC = latent_RC / scale_RC
        codes_RC = straight_through(ratio_RC, ratio_RC.round()) + zero_RC
        return codes_RC.clamp(0, 2**self.num_bits - 1), scale_RC, zero_RC

    def _scale(self) -> Tensor:
        log_gain_RG = self._gradient_frac * self.log_gain_RG
        scale_RG = (
            self.get_buffer("start_RG") * (log_gain_RG + (self.log_gain_RG - log_gain_RG).detach()).exp()
        )
        return straight_through(scale_RG, storable(scale_RG)) if self._is_fp16 else scale_RG
