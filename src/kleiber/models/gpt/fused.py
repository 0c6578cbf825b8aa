"""Small functions of a `gpt` with a backward of their own: fewer passes over memory than autograd would make.

Legend: N tokens, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor

__all__ = ["mixed", "relu2", "softcapped"]


def relu2(x: Tensor) -> Tensor:
    """Return the square of what is above 0.

    Source:
        So et al. 2021, arXiv:2109.08668, section 4.
    """
    squared: Tensor = _ReLU2.apply(x)  # type: ignore[no-untyped-call] # torch's
    return squared


def mixed(x: Tensor, y: Tensor, weights_2: Tensor) -> Tensor:
    """Return `weights_2[0] * x + weights_2[1] * y`; the two have one shape."""
    sum_: Tensor = _Mixed.apply(x, y, weights_2)  # type: ignore[no-untyped-call] # torch's
    return sum_


def softcapped(logits: Tensor, cap: float) -> Tensor:
    """Return `cap * tanh(logits / cap)`.

    Source:
        Gemma 2, arXiv:2408.00118, section 2.
    """
    held: Tensor = _Softcapped.apply(logits, cap)  # type: ignore[no-untyped-call] # torch's
    return held


class _ReLU2(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        above = F.relu(x)
        ctx.save_for_backward(above)
        return above * above

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (above,) = ctx.saved_tensors
        slope: Tensor = (grad * above).mul_(2)
        return slope


class _Mixed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, weights_2: Tensor) -> Tensor:
        ctx.save_for_backward(x, y, weights_2)
        return torch.addcmul(x * weights_2[0], y, weights_2[1])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, y, weights_2 = ctx.saved_tensors
        flat = grad.reshape(-1)
        grad_weights = torch.stack((torch.dot(flat, x.reshape(-1)), torch.dot(flat, y.reshape(-1))))
        return grad * weights_2[0], grad * weights_2[1], grad_weights


class _Softcapped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, cap: float) -> Tensor:
        held = (logits * (1 / cap)).tanh_().mul_(cap)
        ctx.save_for_backward(held)
        ctx.cap = cap
        return held

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (held,) = ctx.saved_tensors
        # The slope of a tanh is 1 less its square.
        return torch.addcmul(grad, grad * held, held, value=-1 / ctx.cap**2), None
