"""The mixture of experts that stands in a block where a dense one has its MLP.

Legend: N tokens, W width, E experts, K experts of a token, M features inside an expert, R = N x K rows, one for each token
and each of its experts.
Rows are sorted by expert and all experts multiply theirs in one operation: several times faster than a loop over small
experts, and its shapes do not depend on what the router decides, so that a step can be traced.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor, nn

from kleiber.models.gpt.spec import GPTSpec

__all__ = ["Experts", "imbalance"]


class Experts(nn.Module):
    """Gated MLPs; each token goes to the K that its router gives the highest probabilities, which weigh their results.

    The matrices of all experts are fused along their rows.

    Source:
        Shazeer et al. 2017, arXiv:1701.06538; weights renormalized over the K, as in Qwen3-MoE.
    """

    def __init__(self, spec: GPTSpec, device: torch.device | str) -> None:
        super().__init__()
        self.spec = spec
        E, W, M = spec.num_experts, spec.width, spec.expert_width

        def empty(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, device=device))

        self.router = empty(E, W)
        self.gate_up = empty(E * 2 * M, W)
        self.down = empty(E * W, M)
        self._imbalance: Tensor | None = None

    def forward(self, x_NW: Tensor) -> Tensor:
        """Return what the experts add to the residual stream, [N, W]."""
        E, W, M = self.spec.num_experts, self.spec.width, self.spec.expert_width
        N, K = len(x_NW), self.spec.experts_per_token
        probs_NE = F.linear(x_NW, self.router).softmax(-1, dtype=torch.float32)
        weights_NK, experts_NK = probs_NE.topk(K)
        weights_NK = weights_NK / weights_NK.sum(-1, keepdim=True)
        # Stable: the rows of an expert stay in the order of their tokens, so the same batch gives the same bits.
        sorted_R, order_R = experts_NK.flatten().sort(stable=True)
        inverse_R = torch.empty_like(order_R).scatter_(0, order_R, torch.arange(N * K, device=x_NW.device))
        numbers_E = torch.arange(E, device=x_NW.device)
        ends_E = torch.searchsorted(sorted_R, numbers_E, right=True, out_int32=True)
        if self.training:
            self._imbalance = imbalance(probs_NE, ends_E)
        x_RW = _rows(x_NW, order_R // K, inverse_R)
        gate_RM, up_RM = F.grouped_mm(x_RW, self.gate_up.view(E, 2 * M, W).mT, offs=ends_E).chunk(2, -1)
        y_RW = F.grouped_mm(F.silu(gate_RM) * up_RM, self.down.view(E, W, M).mT, offs=ends_E)
        y_NKW = _rows(y_RW, inverse_R, order_R).view(N, K, W)
        return (y_NKW * weights_NK.unsqueeze(-1)).sum(1)

    def take_imbalance(self) -> Tensor | None:
        """Return `imbalance` of the last forward pass in training, once."""
        taken, self._imbalance = self._imbalance, None
        return taken


def imbalance(probs_NE: Tensor, ends_E: Tensor) -> Tensor:
    """Return how unevenly tokens are spread: E times the sum over experts of share of tokens times mean probability.

    It is K where all experts are equally likely and equally chosen. The shares are counts, so gradients flow through the
    probabilities alone.

    Args:
        probs_NE: The router's.
        ends_E: Where the rows of each expert end, after sorting.

    Source:
        Fedus et al. 2021, arXiv:2101.03961, equations 4 to 6, with the K choices of a token added up.

    Example:
        >>> round(imbalance(torch.tensor([[0.9, 0.1], [0.7, 0.3]]), torch.tensor([2, 2])).item(), 6)  # 2 (1 x 0.8 + 0 x 0.2)
        1.6
    """
    num_tokens, num_experts = probs_NE.shape
    counts_E = ends_E.diff(prepend=ends_E.new_zeros(1))
    return num_experts / num_tokens * (counts_E * probs_NE.mean(0)).sum()


def _rows(x: Tensor, rows_R: Tensor, back: Tensor) -> Tensor:
    """Return rows of a matrix, each of them equally often.

    Args:
        x: The matrix.
        rows_R: Which.
        back: Where each row of `x` went, all its copies after one another.
    """
    taken: Tensor = _Rows.apply(x, rows_R, back)  # type: ignore[no-untyped-call] # torch's
    return taken


class _Rows(torch.autograd.Function):
    """Takes gradients back by reading rows too: torch's own would add them up one by one, in an order that threads decide."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows_R: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(back)
        ctx.shape = x.shape
        return x.index_select(0, rows_R)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (back,) = ctx.saved_tensors
        num_rows, width = ctx.shape
        return grad.index_select(0, back).view(num_rows, -1, width).sum(1), None, None
