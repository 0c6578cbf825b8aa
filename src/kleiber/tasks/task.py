"""The interface of a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor, nn

from kleiber.data import Batch, Data, Split
from kleiber.runs import Estimate, Shown
from kleiber.tasks.paired import Scores

__all__ = ["Metrics", "Task"]


@dataclass(frozen=True)
class Metrics:
    """Measures of a model on one split."""

    loss: float
    """As minimized, without what only regularizes; [nats/token] of text."""
    loss_half_width: float
    """Half of the 95% interval of `loss` over the samples of the split; nan of a single one."""
    num_tokens: int
    """Measured on; samples where a sample is the unit."""
    values: Mapping[str, Estimate] = field(default_factory=dict)
    """By name, such as `accuracy`, in the order in which a person is shown them."""


class Task(Protocol):
    """Something to learn."""

    def loss(self, module: nn.Module, batch: Batch) -> Tensor:
        """Return the mean loss of a batch, a scalar that can be differentiated."""
        ...

    def weight(self, batch: Batch) -> float:
        """Return what the loss of a batch is a mean over: by it the losses of micro-batches add up to that of their batch."""
        ...

    def evaluate(self, module: nn.Module, data: Data, split: Split = "val") -> Metrics:
        """Return the metrics on a whole split; the module's mode is as before afterwards."""
        ...

    def scores(self, module: nn.Module, data: Data, split: Split = "val") -> Scores:
        """Return what the module makes of each sample of a split, in its order; its mode is as before afterwards."""
        ...

    def show(self, module: nn.Module, data: Data, num: int = 16) -> Sequence[Shown]:
        """Return what the model says of so many samples of the test split, of validation without one; wrong ones first."""
        ...
