"""A few steps of training that leave nothing behind but their losses: what bisection and overfitting are made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch

from kleiber.data import Batch
from kleiber.models import resolve_spec
from kleiber.runs import DataMeta, Recipe
from kleiber.tasks import task_of
from kleiber.tasks.evaluation import evaluating
from kleiber.train import Progress
from kleiber.train.state import TrainState

__all__ = ["ShortRun", "warmed_up"]


def warmed_up(step: int, num_steps: int, *, warmup_frac: float = 0.2) -> float:
    """Return the fraction of the peak rate at a step: a linear warm-up, then constant.

    Example:
        >>> [warmed_up(step, 10) for step in (0, 1, 2, 9)]
        [0.5, 1.0, 1.0, 1.0]
    """
    return min(1.0, (step + 1) / max(1, round(warmup_frac * num_steps)))


@dataclass
class ShortRun:
    """A model in training, in this process.

    Args:
        recipe: One thread, with the shape of its data.
        meta: Of its data.
    """

    recipe: Recipe
    meta: DataMeta
    name: str
    report: Callable[[Progress], None]
    losses: list[float] = field(default_factory=list)
    """Of each step so far; the last is not finite where training diverged."""

    def __post_init__(self) -> None:
        torch.set_num_threads(self.recipe.parallel.num_threads or 1)
        self.state = TrainState.start(self.recipe, resolve_spec(self.recipe))
        self.task = task_of(self.recipe.task, self.meta)

    @property
    def has_diverged(self) -> bool:
        """Whether a loss or a gradient has left the finite numbers."""
        return bool(self.losses) and not math.isfinite(self.losses[-1])

    def train(self, batches: Iterator[Batch], scales: Iterator[float], num_steps: int) -> None:
        """Do so many steps, or fewer where training diverges.

        Args:
            batches: One a step.
            scales: Of the peak rates, one a step.
            num_steps: Steps.
        """
        for _ in range(num_steps):
            if self.has_diverged:
                return
            self.losses.append(self._step(next(batches), next(scales)))
            if len(self.losses) % 8 == 0 or len(self.losses) == self.total_steps:
                unit = self.meta.unit
                self.report(
                    Progress(self.name, len(self.losses), self.total_steps, self.losses[-1], 0.0, unit)
                )

    total_steps: int = 0
    """That will have been done in all; for progress."""

    def _step(self, batch: Batch, scale: float) -> float:
        state = self.state
        loss = self.task.loss(state.module, batch)
        extra = state.module.auxiliary_loss()
        (loss if extra is None else loss + extra).backward()  # type: ignore[no-untyped-call] # torch leaves it unannotated
        norm = state.optimizer.clip_(self.recipe.train.clip_norm)
        value = float(loss.detach())
        if not (math.isfinite(value) and math.isfinite(norm)):
            return math.nan
        state.optimizer.step(scale)
        state.optimizer.zero_grad()
        return value

    def loss_on(self, batches: list[Batch]) -> float:
        """Return the mean loss on batches, the model in evaluation mode."""
        module = self.state.module
        with evaluating(module):
            weights = [self.task.weight(batch) for batch in batches]
            losses = [float(self.task.loss(module, batch)) for batch in batches]
        total = sum(weights)
        return sum(loss * weight for loss, weight in zip(losses, weights, strict=True)) / total
