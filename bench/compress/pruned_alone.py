"""torch-pruning as its own examples use it: half the operations of a trained network, then plain training on the labels.

    python bench/compress/pruned_alone.py runs/resnet20 --macs 0.5 --epochs 2

What comes out is a module with sizes of its own, trained by a loop written here: what the library brings without this tool.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import torch
import torch_pruning
from torch import nn

from kleiber.compress.attempt import open_original
from kleiber.compress.subject import Subject
from kleiber.tasks.quality import quality_changes

BATCH_SIZE = 128
WARM_UP_STEPS = 20
GRID = 40


def pruned(module: nn.Module, example: torch.Tensor, part: float) -> tuple[nn.Module, float]:
    """Return a network with at most a part of the operations, and that part: every layer but the head by the same ratio."""
    whole, _ = torch_pruning.utils.count_ops_and_params(module, example)
    for step in range(1, GRID):
        small = copy.deepcopy(module).requires_grad_()
        torch_pruning.pruner.BasePruner(
            small,
            example,
            importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=step / GRID,
            ignored_layers=[small.head],
        ).step()
        left, _ = torch_pruning.utils.count_ops_and_params(small, example)
        if left <= part * whole:
            return small, left / whole
    raise SystemExit(f"no ratio leaves {part} of the operations")


def train_(module: nn.Module, subject: Subject, epochs: float, lr: float) -> int:
    """Train on the labels, the rate falling to 0 in a line; return how many samples were seen."""
    num_steps = round(epochs * subject.data.meta.num_train_tokens / BATCH_SIZE)
    decay = subject.recipe.train.optimizer.weight_decay
    optimizer = torch.optim.SGD(module.parameters(), lr, momentum=0.9, nesterov=True, weight_decay=decay)
    module.train()
    batches = subject.data.batches("train", 0, BATCH_SIZE)
    for step in range(num_steps):
        rate = min((step + 1) / WARM_UP_STEPS, (num_steps - step) / (num_steps - WARM_UP_STEPS))
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, rate)
        optimizer.zero_grad()
        subject.task.loss(module, next(batches)).backward()
        optimizer.step()
    module.eval()
    return num_steps * BATCH_SIZE


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("--macs", type=float, default=0.5)
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--lr", type=float, default=0.02)
    given = parser.parse_args()
    torch.manual_seed(0)
    original = open_original(given.source, None, 0)
    subject, split = original.subject, original.split
    small, part = pruned(subject.module, torch.zeros(1, 3, 32, 32), given.macs)
    before = original.scores("torch")
    num_seen = 0
    for samples in (0, given.epochs):
        if samples:
            num_seen = train_(small, subject, samples, given.lr)
        after = subject.task.scores(small, subject.data, split)
        change = quality_changes(subject.recipe.task.name, before, after, engine="torch")[0]
        lost = change.difference
        print(
            f"| torch-pruning alone, {part:.3f} of the MACs | {change.after.value:.4f} |"
            f" {lost.value:+.4f} ({lost.low:+.4f} to {lost.high:+.4f}) | {num_seen:,} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
