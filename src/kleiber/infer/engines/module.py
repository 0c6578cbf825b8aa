"""A predictor where a module is expected: what measures quality measures an engine's."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kleiber.infer.predictor import Predictor

__all__ = ["PredictorModule"]


class PredictorModule(nn.Module):
    """Tensors in, what the predictor returns out: `task.evaluate(PredictorModule(predictor), data)`."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.predictor = predictor

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the predictor's output for inputs in the order of the module's arguments."""
        # Programs read memory as if it were whole: a part of a tensor, such as all tokens but the last, is copied out first.
        return torch.from_numpy(self.predictor(*(one.contiguous().numpy() for one in inputs)))
