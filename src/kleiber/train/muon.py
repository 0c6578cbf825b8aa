"""Muon: momentum whose matrices are made orthogonal before they step.

Legend: M matrices of one shape, R rows, C columns, R <= C.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kleiber.cost import MUON_ITERATIONS

__all__ = ["Muon", "orthogonalize"]

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration: steep at 0, within [0.7, 1.2] after five steps (Jordan 2024, "Muon")."""
_EPS = 1e-7
_FIRST_MOMENTUM = 0.85
"""Where a warm-up of the momentum begins."""


def orthogonalize(x_MRC: Tensor) -> Tensor:
    """Return matrices with the singular vectors of `x_MRC` and singular values near 1.

    Works in the precision of its input: fp32 on a CPU, where bf16 is several times slower.

    Args:
        x_MRC: Matrices, R <= C.

    Source:
        Jordan 2024, "Muon: an optimizer for hidden layers", Newton-Schulz iteration.
    """
    a, b, c = _COEFFICIENTS
    x: Tensor = x_MRC / (torch.linalg.matrix_norm(x_MRC, keepdim=True) + _EPS)
    for _ in range(MUON_ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


@dataclass(frozen=True)
class _Slot:
    """Where one matrix stands: rows of a parameter, folded to two dimensions, transposed to R <= C."""

    param: int
    start: int
    stop: int
    is_transposed: bool

    def view(self, tensors: Sequence[Tensor]) -> Tensor:
        rows = tensors[self.param].flatten(1)[self.start : self.stop]
        return rows.mT if self.is_transposed else rows


class Muon:
    """Steps hidden matrices along their orthogonalized Nesterov momentum.

    Matrices of one shape are stacked and go through the iteration together: on small models the number of
    operations is the cost. Convolution kernels are folded to (out, in x height x width); fused matrices are
    taken apart.

    Args:
        params: Weights with at least two dimensions.
        row_splits: For each, the rows of every matrix fused into it.
        lr: Root-mean-square of a step; the update is scaled by sqrt(max(R, C)), whose entries have
            root-mean-square 1. torch's `Muon` with `adjust_lr_fn="match_rms_adamw"` and lr / 0.2 does the same.
        momentum: Of the running mean of gradients.
        momentum_warmup_steps: Over which the momentum rises from 0.85 (Jordan et al. 2024, modded-nanogpt); 0 is none.
        weight_decay: Decoupled, times the learning rate.
        is_cautious: Whether it reaches only the weights that the step itself moves towards 0.
        rate_scales: For each parameter, its rate over `lr`; weight decay stays what it is at `lr`. None is 1 for all.
    """

    def __init__(
        self,
        params: Sequence[Tensor],
        row_splits: Sequence[Sequence[int]],
        *,
        lr: float,
        momentum: float = 0.95,
        momentum_warmup_steps: int = 0,
        weight_decay: float = 0.0,
        is_cautious: bool = False,
        rate_scales: Sequence[float] | None = None,
    ) -> None:
        self.params = list(params)
        self.lr, self.momentum, self.weight_decay = lr, momentum, weight_decay
        self.momentum_warmup_steps, self.is_cautious = momentum_warmup_steps, is_cautious
        self._num_steps = torch.zeros((), dtype=torch.int64) if momentum_warmup_steps else None
        self._slots: list[list[_Slot]] = _group_by_shape(self.params, row_splits)
        self._momenta_MRC = [
            torch.zeros(len(slots), *slots[0].view(self.params).shape, dtype=params[0].dtype)
            for slots in self._slots
        ]
        scales = list(rate_scales or [1.0] * len(self.params))
        # A number a group where its matrices agree, as they do without scales: a tensor would be one more operation.
        self._rate_scales = [_scales(slots, scales, params[0].dtype) for slots in self._slots]

    @torch.no_grad()
    def step(self, scale: float) -> None:
        """Move every parameter by its gradient; `scale` is the schedule's fraction of the rate."""
        lr = self.lr * scale
        gradients = [param.grad for param in self.params if param.grad is not None]
        if len(gradients) != len(self.params):
            raise ValueError("every parameter needs a gradient before Muon steps")
        decay, momentum = lr * self.weight_decay, self._momentum()
        if decay and not self.is_cautious:
            torch._foreach_mul_(self.params, 1 - decay)
        for slots, momentum_MRC, rates in zip(self._slots, self._momenta_MRC, self._rate_scales, strict=True):
            gradient_MRC = torch.stack([slot.view(gradients) for slot in slots])
            momentum_MRC.lerp_(gradient_MRC, 1 - momentum)
            update_MRC = orthogonalize(gradient_MRC.lerp_(momentum_MRC, momentum))
            targets = [slot.view(self.params) for slot in slots]
            step = lr * math.sqrt(max(update_MRC.shape[1:]))
            if isinstance(rates, Tensor):
                update_MRC = update_MRC.mul_(rates)
            else:
                step *= rates
            if decay and self.is_cautious:
                weights_MRC = torch.stack(targets)
                is_shrunk_MRC = weights_MRC * update_MRC > 0
                update_MRC.addcmul_(weights_MRC, is_shrunk_MRC, value=decay / step)
            torch._foreach_add_(targets, list(update_MRC.unbind()), alpha=-step)
        if self._num_steps is not None:
            self._num_steps += 1

    def _momentum(self) -> float:
        """Return the momentum of the next step."""
        if self._num_steps is None:
            return self.momentum
        start = min(_FIRST_MOMENTUM, self.momentum)
        done = min(1.0, int(self._num_steps) / self.momentum_warmup_steps)
        return start + (self.momentum - start) * done

    def tensors(self) -> dict[str, Tensor]:
        """Return the state by name; the tensors are the state itself."""
        momenta = {f"momentum.{index}": tensor for index, tensor in enumerate(self._momenta_MRC)}
        return momenta | ({} if self._num_steps is None else {"num_steps": self._num_steps})


def _scales(slots: Sequence[_Slot], scales: Sequence[float], dtype: torch.dtype) -> float | Tensor:
    """Return the rate scales of a group's matrices, [M, 1, 1], or their one value."""
    found = [scales[slot.param] for slot in slots]
    return found[0] if len(set(found)) == 1 else torch.tensor(found, dtype=dtype)[:, None, None]


def _group_by_shape(params: Sequence[Tensor], row_splits: Sequence[Sequence[int]]) -> list[list[_Slot]]:
    groups: dict[tuple[int, int], list[_Slot]] = {}
    for index, (param, splits) in enumerate(zip(params, row_splits, strict=True)):
        if param.ndim < 2 or sum(splits) != param.shape[0]:
            raise ValueError(
                f"rows {tuple(splits)} must add up to the first dimension of {tuple(param.shape)}"
            )
        columns, start = param[0].numel(), 0
        for rows in splits:
            slot = _Slot(index, start, start + rows, is_transposed=rows > columns)
            groups.setdefault((min(rows, columns), max(rows, columns)), []).append(slot)
            start += rows
    return list(groups.values())
