"""Training the target of a demo in a process of its own, which loads what training loads and no more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from kleiber.runs import Predicted, Recipe
from kleiber.train import Progress, train

__all__ = ["train_target"]


def train_target(
    recipe: Recipe, folder: Path, predicted: Predicted, report: Callable[[Progress], Any]
) -> None:
    """Train a target that was foretold.

    A process that is told to call this imports this file. It stands apart from the demo, whose engines and compression would be
    loaded with it: memory is measured above what a process holds before it trains, and libraries that training
    loads too would then be missing from what is measured (by 30 MB, a quarter of a demo's target).

    Args:
        recipe: What to train.
        folder: Of the run.
        predicted: What was said of it before.
        report: Called at every log step.
    """
    train(recipe, folder, predicted=predicted, on_progress=report)
