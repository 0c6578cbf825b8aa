"""The interface of a task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from kleiber.data import Batch, TextData

__all__ = ["Metrics", "Task"]


@dataclass(frozen=True)
class Metrics:
    """Measures of a model on the fixed evaluation set."""

    loss: float
    """[nats/token]"""
    loss_half_width: float
    """Half of the 95% interval of `loss` over the sequences of the set."""
    bits_per_byte: float
    num_tokens: int


class Task(Protocol):
    """Something to learn."""

    def loss(self, module: nn.Module, batch: Batch) -> Tensor:
        """Return the mean loss of a batch, a scalar that can be differentiated."""
        ...

    def evaluate(self, module: nn.Module, data: TextData) -> Metrics:
        """Return the metrics on the whole evaluation set."""
        ...
