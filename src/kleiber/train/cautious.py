"""AdamW whose decay reaches only the weights that its step moves towards 0 as well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

__all__ = ["CautiousAdamW"]


class CautiousAdamW(torch.optim.AdamW):
    """torch's AdamW with a decay that asks the step first.

    The fused step is taken without decay; where it moved a weight towards 0, the weight is brought nearer to 0 by
    rate x decay of what it was. It holds a copy of one group's weights during the step.

    Source:
        Chen et al. 2025, "Cautious Weight Decay", arXiv:2510.12402, algorithm 1.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Move every parameter by its gradient."""
        decays = [float(group["weight_decay"]) for group in self.param_groups]
        before = [
            [param.clone() for param in group["params"]] if decay else []
            for group, decay in zip(self.param_groups, decays, strict=True)
        ]
        for group in self.param_groups:
            group["weight_decay"] = 0.0
        loss = super().step(closure)
        for group, decay, weights in zip(self.param_groups, decays, before, strict=True):
            group["weight_decay"] = decay
            for param, weight in zip(group["params"], weights, strict=False):
                is_shrunk = (weight - param) * weight > 0
                param.addcmul_(weight, is_shrunk, value=-float(group["lr"]) * decay)
        return loss
