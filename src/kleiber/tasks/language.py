"""Language modelling: predict the next token.

Legend: B sequences, T tokens, V vocabulary.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor, nn

from kleiber.cost import VAL_SEQUENCES
from kleiber.data import Batch, TextData
from kleiber.tasks.task import Metrics

__all__ = ["LanguageModelling"]


class LanguageModelling:
    """Cross-entropy of the next token [nats/token]."""

    def loss(self, module: nn.Module, batch: Batch) -> Tensor:
        """Return the mean cross-entropy over all tokens of the batch."""
        return F.cross_entropy(*_logits_and_targets(module, batch))

    @torch.no_grad()
    def evaluate(self, module: nn.Module, data: TextData) -> Metrics:
        """Return the cross-entropy over the evaluation set, with the interval of its mean over sequences."""
        was_training = module.training
        module.eval()
        # One array for all results: small ones between the batches' large tensors would tear the heap apart.
        loss_B = torch.empty(data.meta.num_val_tokens // data.meta.context, dtype=torch.float64)
        for batch in data.batches("val", 0, VAL_SEQUENCES):
            loss_B[batch.cursor - len(batch.tokens) : batch.cursor] = _sequence_losses(module, batch)
        module.train(was_training)
        mean = float(loss_B.mean())
        half_width = 1.96 * float(loss_B.std()) / math.sqrt(len(loss_B)) if len(loss_B) > 1 else math.nan
        return Metrics(
            loss=mean,
            loss_half_width=half_width,
            bits_per_byte=mean / math.log(2) / data.meta.val_bytes_per_token,
            num_tokens=len(loss_B) * data.meta.context,
        )


def _sequence_losses(module: nn.Module, batch: Batch) -> Tensor:
    """Return the mean loss of each sequence, [B]; the logits are gone before the next batch."""
    logits, targets = _logits_and_targets(module, batch)
    return F.cross_entropy(logits, targets, reduction="none").view(len(batch.tokens), -1).mean(1)


def _logits_and_targets(module: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    tokens = torch.from_numpy(batch.tokens)
    logits_BTV = module(tokens[:, :-1])
    return logits_BTV.flatten(0, 1), tokens[:, 1:].flatten()
