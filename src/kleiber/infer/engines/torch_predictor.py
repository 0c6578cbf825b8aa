"""The reference engine: the module itself, in eager PyTorch."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
import torch
from torch import nn

from kleiber.infer.threads import threads

__all__ = ["TorchPredictor"]


class TorchPredictor:
    """A module that computes in fp32 whatever its weights are stored as.

    Args:
        module: Is put into evaluation mode for each call.
        num_threads: Of torch, during a call.
    """

    engine = "torch"
    precision = "fp32"
    notes: tuple[str, ...] = ()

    def __init__(self, module: nn.Module, num_threads: int) -> None:
        self._module = module
        self._num_threads = num_threads

    def __call__(self, *inputs: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the module's output for inputs in the order of its arguments; any batch size."""
        was_training = self._module.training
        if was_training:
            self._module.eval()
        with torch.inference_mode(), threads(self._num_threads):
            output: npt.NDArray[Any] = self._module(*map(torch.from_numpy, inputs)).numpy()
        if was_training:
            self._module.train()
        return output
