"""What the tests of `kleiber compress` start from: quick measurements."""

from __future__ import annotations

from kleiber.compress.speed import Measuring


class QuickMeasuring(Measuring):
    """Two turns a model on torch alone: figures that are not looked at."""

    engines: tuple[str, ...] = ("torch",)
    num_rounds: int = 2
    block_s: float = 0.002
    max_batch: int = 2
    has_memory: bool = False


RECIPE = (
    "model.depth=1", "model.width=32", "data.vocab_size=300", "data.context=32", "data.val_frac=0.2", "data.val_tokens=1024",
    "train.num_steps=40", "train.batch_size=8", "train.schedule.warmup_steps=4", "train.val_every=40", "parallel.num_threads=1",
)  # fmt: skip
"""Of a gpt that learns in a second."""
