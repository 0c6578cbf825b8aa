"""What a built-in family minimizes, as far as it costs anything: targets are made up.

Legend: B samples, K classes or values, T tokens, V vocabulary, E features of an embedding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor

from kleiber.models.foreign.losses import cross_entropy, mean_square
from kleiber.models.seen_data import usual_task
from kleiber.runs import DataShape, TaskName

__all__ = ["find_task_loss"]


def find_task_loss(shape: DataShape, task: TaskName | None = None) -> tuple[Callable[[Any], Tensor], str]:
    """Return the loss of a task and what the user is told of it; without a task, of what the shape is usually for."""
    return _LOSSES[task or usual_task(shape)]


def _contrastive(output: Any) -> Tensor:
    """Return the loss of matching images with texts (Radford et al. 2021, arXiv:2103.00020, figure 3)."""
    images_BE, texts_BE, scale = output
    logits_BB = scale * images_BE @ texts_BE.T
    matches = torch.arange(len(logits_BB))
    return (F.cross_entropy(logits_BB, matches) + F.cross_entropy(logits_BB.T, matches)) / 2


_LOSSES: dict[TaskName, tuple[Callable[[Any], Tensor], str]] = {
    "lm": (cross_entropy, "cross-entropy of the next token"),
    "classification": (cross_entropy, "cross-entropy of the class"),
    "regression": (mean_square, "mean square of the distance to the values"),
    "seq2seq": (cross_entropy, "cross-entropy of the next token of the target"),
    "contrastive": (_contrastive, "cross-entropy of which text belongs to which image, both ways"),
}
