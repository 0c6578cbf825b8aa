"""Fixed data, more and more epochs: how far training and held-out loss part, and when the latter turns."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from kleiber.data import Batch
from kleiber.runs import Recipe
from kleiber.study.growing.measured import Overfit, measured_path
from kleiber.study.growing.opened import opened
from kleiber.study.growing.short_run import ShortRun
from kleiber.train import Progress

__all__ = ["EPOCHS", "NUM_PASSES", "overfit"]

EPOCHS = (1, 2, 3, 4, 6, 8, 12, 16)
"""After which both losses are measured."""
NUM_PASSES = EPOCHS[-1] * 4 / 3
"""Of training in all, what measuring takes counted in."""
_WARMUP_STEPS = 10


def overfit(
    recipe: Recipe, member: str, num_batches: int, folder: Path, report: Callable[[Progress], None]
) -> None:
    """Write the losses of a size that learns from so many batches, again and again, at a constant rate.

    Args:
        recipe: Of the size.
        member: Its name.
        num_batches: That are repeated, in another order each epoch.
        folder: The study.
        report: Is told how far it is.
    """
    data = opened(recipe)
    size = recipe.train.batch_size
    seen = list(itertools.islice(data.batches("train", 0, size), num_batches))
    held_out = list(itertools.islice(data.batches("val", 0, size), num_batches))
    run = ShortRun(recipe, data.meta, f"{member} repeated", report, total_steps=num_batches * EPOCHS[-1])
    batches = _shuffled(seen, recipe.train.seed)
    scales = (min(1.0, (step + 1) / _WARMUP_STEPS) for step in itertools.count())
    epochs, train, val = [], [], []
    for before, epoch in itertools.pairwise((0, *EPOCHS)):
        run.train(batches, scales, num_batches * (epoch - before))
        losses = (math.nan, math.nan) if run.has_diverged else (run.loss_on(seen), run.loss_on(held_out))
        if not all(math.isfinite(loss) for loss in losses):
            break
        epochs.append(float(epoch))
        train.append(losses[0])
        val.append(losses[1])
    Overfit(
        member=member,
        num_units=num_batches * recipe.tokens_per_step,
        epochs=tuple(epochs),
        train_losses=tuple(train),
        val_losses=tuple(val),
    ).write(measured_path(folder, Overfit, member))


def _shuffled(batches: list[Batch], seed: int) -> Iterator[Batch]:
    random = np.random.default_rng(seed)
    while True:
        yield from (batches[place] for place in random.permutation(len(batches)))
