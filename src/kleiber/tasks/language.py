"""Language modelling: predict the next token.

Legend: B sequences, T tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor, nn

from kleiber.cost import VAL_SEQUENCES
from kleiber.data import Batch, Data, Split
from kleiber.runs import DataMeta, Estimate, Shown, TaskRecipe
from kleiber.tasks.intervals import half_width
from kleiber.tasks.paired import Scores
from kleiber.tasks.task import Metrics

__all__ = ["LanguageModelling", "metrics_of_losses"]


class LanguageModelling:
    """Cross-entropy of the next token [nats/token].

    Args:
        recipe: How it is learnt.
        meta: Of the data; left aside, for tokens say all.
    """

    def __init__(self, recipe: TaskRecipe | None = None, meta: DataMeta | None = None) -> None:
        self._smoothing = recipe.label_smoothing if recipe else 0.0
        del meta

    def loss(self, module: nn.Module, batch: Batch) -> Tensor:
        """Return the mean cross-entropy over all tokens of the batch."""
        logits, targets = _logits_and_targets(module, batch)
        return F.cross_entropy(logits, targets, label_smoothing=self._smoothing)

    def weight(self, batch: Batch) -> float:
        """Return the number of sequences."""
        return len(batch)

    def evaluate(self, module: nn.Module, data: Data, split: Split = "val") -> Metrics:
        """Return the cross-entropy over the evaluation set, with the interval of its mean over sequences."""
        return metrics_of_losses(torch.from_numpy(self.scores(module, data, split).losses_N), data.meta)

    @torch.no_grad()
    def scores(self, module: nn.Module, data: Data, split: Split = "val") -> Scores:
        """Return the mean loss of each sequence of the evaluation set."""
        was_training = module.training
        module.eval()
        context = data.meta.shape.context or 1
        # One array for all results: small ones between the batches' large tensors would tear the heap apart.
        loss_B = torch.empty(data.meta.num_val_tokens // context, dtype=torch.float64)
        for batch in data.batches(split, 0, VAL_SEQUENCES):
            loss_B[batch.cursor - len(batch) : batch.cursor] = _sequence_losses(module, batch)
        module.train(was_training)
        return Scores(loss_B.numpy(), np.ones(len(loss_B)))

    def show(self, module: nn.Module, data: Data, num: int = 16) -> Sequence[Shown]:
        """Return nothing: what a language model says is generated, not predicted sample by sample."""
        del module, data, num
        return ()


def metrics_of_losses(loss_B: Tensor, meta: DataMeta) -> Metrics:
    """Return the metrics of a text by the mean loss of each of its sequences [nats/token]."""
    mean = float(loss_B.mean())
    reach = half_width(loss_B.numpy())
    return Metrics(mean, reach, len(loss_B) * (meta.shape.context or 1), _measures(mean, reach, meta))


def _measures(loss: float, reach: float, meta: DataMeta) -> dict[str, Estimate]:
    """Return perplexity and bits a byte, with the interval of the loss."""
    if not math.isfinite(reach):
        reach = 0.0
    low, high = loss - reach, loss + reach
    measures = {}
    if meta.val_bytes_per_token is not None:
        nats_to_bits = 1 / math.log(2) / meta.val_bytes_per_token
        measures["bits_per_byte"] = Estimate(
            value=loss * nats_to_bits, low=low * nats_to_bits, high=high * nats_to_bits
        )
    if high < math.log(1e30):  # a loss that diverges has no perplexity to speak of
        measures["perplexity"] = Estimate(value=math.exp(loss), low=math.exp(low), high=math.exp(high))
    return measures


def _sequence_losses(module: nn.Module, batch: Batch) -> Tensor:
    """Return the mean loss of each sequence, [B]; the logits are gone before the next batch."""
    logits, targets = _logits_and_targets(module, batch)
    return F.cross_entropy(logits, targets, reduction="none").view(len(batch), -1).mean(1)


def _logits_and_targets(module: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    tokens = torch.from_numpy(batch.tokens)
    logits_BTV = module(tokens[:, :-1])
    return logits_BTV.flatten(0, 1), tokens[:, 1:].flatten()
