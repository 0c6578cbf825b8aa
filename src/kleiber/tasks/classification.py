"""Classification: which of K classes a sample belongs to.

Legend: B samples of a batch, N of a split, K classes.
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
from kleiber.runs import DataMeta, Estimate, Shown, TaskRecipe
from kleiber.tasks.evaluation import evaluated_split, gathered, model_inputs, outputs_on, tensor
from kleiber.tasks.intervals import half_width
from kleiber.tasks.metrics import accuracy, macro_auc, macro_f1, require_metrics
from kleiber.tasks.paired import Scores
from kleiber.tasks.show import MAX_POOL, sample_fields, wrong_first
from kleiber.tasks.task import Metrics

__all__ = ["Classification"]


class Classification:
    """Cross-entropy of the class [nats], or binary cross-entropy of each class by itself.

    A module of a single output gives the log-odds of the second of two classes.

    Args:
        recipe: How it is learnt.
        meta: Of the data; its classes are named when predictions are shown, and their counts balance the loss. None
            where only the cost of the loss is asked.
    """

    def __init__(self, recipe: TaskRecipe, meta: DataMeta | None = None) -> None:
        self._minimized = recipe.minimized
        self._smoothing = recipe.label_smoothing
        self._weights_K = None
        if meta is not None:
            require_metrics("torchmetrics")
            if recipe.class_weights == "balanced":
                self._weights_K = balanced_weights(meta.class_counts)

    def loss(self, module: nn.Module, batch: Batch) -> Tensor:
        """Return the mean loss over the batch; labels may be classes [B] or shares of them [B, K].

        The mean is over samples whatever their weights, so that micro-batches add up to their batch.
        """
        outputs_BK = module(*model_inputs(batch))
        return self._losses(outputs_BK, tensor(batch, "labels"), self._smoothing).mean()

    def weight(self, batch: Batch) -> float:
        """Return the number of samples."""
        return len(batch)

    def evaluate(self, module: nn.Module, data: Data, split: Split = "val") -> Metrics:
        """Return loss, accuracy, macro-F1 and, where there are two classes of samples, the area under the ROC curve."""
        outputs_NK, labels = outputs_on(module, data, split, kept="labels")
        losses_N = self._scores(outputs_NK, labels).losses_N
        log_odds_NK = self._log_odds(outputs_NK).numpy()
        predicted_N = log_odds_NK.argmax(1)
        values: dict[str, Estimate] = {
            "accuracy": accuracy(predicted_N, labels),
            "macro_f1": macro_f1(predicted_N, labels, log_odds_NK.shape[1]),
        }
        if (auc := macro_auc(log_odds_NK, labels)) is not None:
            values["auc"] = auc
        return Metrics(float(losses_N.mean()), half_width(losses_N), len(losses_N), values)

    def scores(self, module: nn.Module, data: Data, split: Split = "val") -> Scores:
        """Return loss and hit of each sample."""
        return self._scores(*outputs_on(module, data, split, kept="labels"))

    def show(self, module: nn.Module, data: Data, num: int = 16) -> Sequence[Shown]:
        """Return what the module says of samples that are held out, wrong ones first."""
        split = evaluated_split(data)
        outputs_NK, labels = outputs_on(module, data, split, kept="labels", most=MAX_POOL)
        log_odds_N, predicted_N = self._log_odds(outputs_NK).max(1)
        confidence_N = log_odds_N.sigmoid()
        chosen = wrong_first(predicted_N.numpy() == labels, num)
        fields = sample_fields(gathered(data, split, chosen), data)
        return [
            Shown(
                **fields[position],
                expected=_name(data.meta, int(labels[index])),
                predicted=_name(data.meta, int(predicted_N[index])),
                is_right=int(predicted_N[index]) == int(labels[index]),
                confidence_frac=float(confidence_N[index]),
            )
            for position, index in enumerate(chosen)
        ]

    def _scores(self, outputs_NK: Tensor, labels: npt.NDArray[Any]) -> Scores:
        losses_N = self._losses(outputs_NK, torch.from_numpy(labels), smoothing=0.0).double().numpy()
        hits_N = self._log_odds(outputs_NK).argmax(1).numpy() == labels
        return Scores(losses_N, np.ones(len(losses_N)), hits_N)

    def _losses(self, outputs_BK: Tensor, labels: Tensor, smoothing: float) -> Tensor:
        """Return the loss of each sample, [B]."""
        if self._minimized == "cross_entropy":
            weights_K = None if self._weights_K is None else self._weights_K.to(outputs_BK.dtype)
            return F.cross_entropy(
                outputs_BK, labels, weight=weights_K, reduction="none", label_smoothing=smoothing
            )
        targets_BK = _shares(labels, max(2, outputs_BK.shape[1])).to(outputs_BK.dtype)
        is_single = outputs_BK.shape[1] == 1
        losses_BK = F.binary_cross_entropy_with_logits(
            outputs_BK, targets_BK[:, 1:] if is_single else targets_BK, reduction="none"
        )
        weights_B = 1.0 if self._weights_K is None else targets_BK @ self._weights_K.to(outputs_BK.dtype)
        return losses_BK.mean(1) * weights_B

    def _log_odds(self, outputs_NK: Tensor) -> Tensor:
        """Return the log-odds of each class, float64; of classes that are asked one by one each has its own."""
        outputs_NK = outputs_NK.double()
        if self._minimized == "cross_entropy":
            return log_odds(outputs_NK)
        return torch.cat([-outputs_NK, outputs_NK], 1) if outputs_NK.shape[1] == 1 else outputs_NK


def log_odds(logits_NK: Tensor) -> Tensor:
    """Return the log-odds of each class against the others together, whose sigmoids are the softmax of the logits.

    Probabilities of a sure model round to 1 and become equal; these do not, so that samples stay in their order.

    Example:
        >>> log_odds(torch.tensor([[0.0, 50.0], [0.0, 60.0]], dtype=torch.float64)).tolist()
        [[-50.0, 50.0], [-60.0, 60.0]]
    """
    top_N1 = logits_NK.argmax(1, keepdim=True)
    others_N1 = logits_NK.scatter(1, top_N1, -torch.inf).logsumexp(1, keepdim=True)
    log_probs_NK = logits_NK.log_softmax(1)
    # Of a class that is not the likeliest the probability is at most a half: 1 less it is exact.
    rest_NK = torch.log1p(-log_probs_NK.exp())
    return (log_probs_NK - rest_NK).scatter(1, top_N1, logits_NK.gather(1, top_N1) - others_N1)


def balanced_weights(class_counts: Sequence[int]) -> Tensor:
    """Return weights by which every class counts as much as another, and the mean training sample as 1; 0 of an empty class.

    Source:
        King and Zeng 2001, Political Analysis 9, 137-163; scikit-learn's `class_weight="balanced"`.

    Example:
        >>> balanced_weights([30, 10]).tolist()
        [0.6666666666666666, 2.0]
    """
    counts_K = torch.tensor(class_counts, dtype=torch.float64)
    num_present = int((counts_K > 0).sum())
    return torch.where(counts_K > 0, counts_K.sum() / (num_present * counts_K), 0.0)


def _shares(labels: Tensor, num_classes: int) -> Tensor:
    """Return how much of each class a sample is, [B, K]."""
    return F.one_hot(labels, num_classes) if labels.ndim == 1 else labels


def _name(meta: DataMeta, label: int) -> str:
    return meta.classes[label] if label < len(meta.classes) else str(label)
