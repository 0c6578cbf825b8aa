"""How much worse a model gets when one of its layers has few bits, and the others all.

Legend: R rows, C columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from kleiber.compress.inputs import hessians
from kleiber.data import Batch
from kleiber.models.stored.grid import Grid, output_error
from kleiber.models.stored.rounding import round_to_nearest
from kleiber.tasks import Task
from kleiber.tasks.evaluation import evaluating

__all__ = ["loss_changes", "mean_loss", "output_changes"]


def loss_changes(
    module: nn.Module, task: Task, batches: Sequence[Batch], grids: Mapping[str, Sequence[Grid]]
) -> dict[str, list[float]]:
    """Return how much the loss rises when one layer is rounded, for each layer's grids in turn; 0 where it falls.

    Args:
        module: Its weights are as before afterwards.
        task: Whose loss.
        batches: Each is one forward pass for every layer and grid.
        grids: By the name of the weight.
    """
    params = dict(module.named_parameters())
    with evaluating(module):
        before = mean_loss(module, task, batches)
        changes: dict[str, list[float]] = {}
        for name, choices in grids.items():
            saved = params[name].clone()
            changes[name] = []
            for grid in choices:
                params[name].copy_(round_to_nearest(saved.flatten(1), grid).dense().view_as(saved))
                changes[name].append(max(0.0, mean_loss(module, task, batches) - before))
            params[name].copy_(saved)
    return changes


@torch.no_grad()
def output_changes(
    module: nn.Module, batches: Sequence[Batch], grids: Mapping[str, Sequence[Grid]]
) -> dict[str, list[float]]:
    """Return the squared change of a layer's outputs when it is rounded, as a part of their square, for its grids in turn.

    One pass over the batches serves all: the error is weighted by the second moments of the inputs. A layer that saw no
    inputs is judged by its weights alone.
    """
    params = dict(module.named_parameters())
    moments = hessians(module, batches, grids)
    changes = {}
    for name, choices in grids.items():
        W_RC = params[name].flatten(1)
        H_CC = moments.get(name, torch.eye(W_RC.shape[1]))
        size = output_error(W_RC, torch.zeros_like(W_RC), H_CC) or 1.0
        changes[name] = [
            output_error(W_RC, round_to_nearest(W_RC, grid).dense(), H_CC) / size for grid in choices
        ]
    return changes


def mean_loss(module: nn.Module, task: Task, batches: Sequence[Batch]) -> float:
    """Return the loss over batches, each as heavy as its task says; the module's mode and gradients are the caller's."""
    weights = [task.weight(batch) for batch in batches]
    losses = [float(task.loss(module, batch)) for batch in batches]
    return sum(loss * weight for loss, weight in zip(losses, weights, strict=True)) / sum(weights)
