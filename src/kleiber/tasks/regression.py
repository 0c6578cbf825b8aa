"""Regression: K values of a sample.

Modules predict standardized values, (value - mean) / std over the training split; measures are of the values themselves.
Legend: B samples of a batch, N of a split, K values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor, nn

from kleiber.data import Batch, Data, Split
from kleiber.runs import DataMeta, Shown, TaskRecipe
from kleiber.tasks.evaluation import evaluated_split, gathered, model_inputs, outputs_on, tensor
from kleiber.tasks.intervals import half_width
from kleiber.tasks.metrics import mean_absolute_error, r2, require_metrics
from kleiber.tasks.paired import Scores
from kleiber.tasks.show import MAX_POOL, sample_fields, written
from kleiber.tasks.task import Metrics

__all__ = ["Regression"]


class Regression:
    """Squared error, or Huber's, in standard deviations of the target.

    Args:
        recipe: How it is learnt.
        meta: Of the data; its `target_mean` and `target_std` standardize. None where only the cost of the loss is asked.
    """

    def __init__(self, recipe: TaskRecipe, meta: DataMeta | None = None) -> None:
        self._minimized, self._delta = recipe.minimized, recipe.huber_delta
        mean, std = ((0.0,), (1.0,)) if meta is None else (meta.target_mean, meta.target_std)
        self._mean_K = torch.tensor(mean, dtype=torch.float64)
        # A target that never varies: its deviations are 0 and stay so.
        self._std_K = torch.tensor([one or 1.0 for one in std], dtype=torch.float64)
        if meta is not None:
            require_metrics("torchmetrics")

    def loss(self, module: nn.Module, batch: Batch) -> Tensor:
        """Return the mean loss over samples and values."""
        return self._losses(module(*model_inputs(batch)), tensor(batch, "values")).mean()

    def weight(self, batch: Batch) -> float:
        """Return the number of samples."""
        return len(batch)

    def evaluate(self, module: nn.Module, data: Data, split: Split = "val") -> Metrics:
        """Return loss, R² and the mean absolute error."""
        outputs_NK, values_NK = outputs_on(module, data, split, kept="values")
        losses_N = self._scores(outputs_NK, values_NK).losses_N
        predicted_NK, values_NK = self._in_units(outputs_NK), values_NK.astype(np.float64)
        explained = r2(predicted_NK, values_NK)
        values = {"r2": explained} if explained is not None else {}
        values["mean_absolute_error"] = mean_absolute_error(predicted_NK, values_NK)
        return Metrics(float(losses_N.mean()), half_width(losses_N), len(losses_N), values)

    def scores(self, module: nn.Module, data: Data, split: Split = "val") -> Scores:
        """Return the loss of each sample, the mean over its values."""
        return self._scores(*outputs_on(module, data, split, kept="values"))

    def show(self, module: nn.Module, data: Data, num: int = 16) -> Sequence[Shown]:
        """Return predictions of samples that are held out, evenly from the one that is furthest off to the nearest."""
        split = evaluated_split(data)
        outputs_NK, values_NK = outputs_on(module, data, split, kept="values", most=MAX_POOL)
        predicted_NK = self._in_units(outputs_NK)
        chosen = furthest_first(np.abs((predicted_NK - values_NK) / self._std_K.numpy()).mean(1), num)
        fields = sample_fields(gathered(data, split, chosen), data)
        return [
            Shown(
                **fields[position],
                expected=written(values_NK[index]),
                predicted=written(predicted_NK[index]),
            )
            for position, index in enumerate(chosen)
        ]

    def _scores(self, outputs_NK: Tensor, values_NK: npt.NDArray[Any]) -> Scores:
        losses_N = self._losses(outputs_NK, torch.from_numpy(values_NK)).mean(1).double().numpy()
        return Scores(losses_N, np.ones(len(losses_N)))

    def _losses(self, outputs_BK: Tensor, values_BK: Tensor) -> Tensor:
        """Return the loss of each value, [B, K]."""
        targets_BK = ((values_BK.double() - self._mean_K) / self._std_K).to(outputs_BK.dtype)
        if self._minimized == "mse":
            return F.mse_loss(outputs_BK, targets_BK, reduction="none")
        return F.huber_loss(outputs_BK, targets_BK, reduction="none", delta=self._delta)

    def _in_units(self, outputs_NK: Tensor) -> npt.NDArray[np.float64]:
        return (outputs_NK.double() * self._std_K + self._mean_K).numpy()


def furthest_first(errors_N: npt.NDArray[np.float64], num: int) -> list[int]:
    """Return samples at even steps of the ranking by error, the worst one first.

    Example:
        >>> furthest_first(np.array([0.0, 4.0, 1.0, 3.0, 2.0]), 3)
        [1, 4, 0]
    """
    ranking = np.argsort(-errors_N, kind="stable")
    positions = np.linspace(0, len(ranking) - 1, min(num, len(ranking)))
    return [int(index) for index in ranking[np.rint(positions).astype(np.intp)]]
