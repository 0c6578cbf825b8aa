"""What the inverse of a plan answers: the documents."""

from __future__ import annotations

from typing import Literal

from kleiber.models.gpt import GPTSpec
from kleiber.runs import Convention, Document, ParamCount
from kleiber.study.budget import Budget

__all__ = ["Choice", "FlatRange", "Optimum", "OptimumIntervals", "Room", "SizedRun"]


class SizedRun(Document):
    """One size, trained for as long as the budget lasts."""

    spec: GPTSpec
    num_params: ParamCount
    num_tokens: int
    """Of training."""
    loss: float
    """Predicted by the law [nats/token]."""
    interval_80: tuple[float, float] | None
    """None for a published law, which comes without refits."""
    interval_95: tuple[float, float] | None
    train_flops: float
    inference_flops: float
    """Of serving the budget's `inference_tokens`."""
    time_s: float | None
    """Of training on all devices; None where nothing is known of their rate."""
    usd: float | None
    """Of training on all devices; None without a price."""
    memory_bytes: float
    """Peak of one device."""
    fits: bool | None
    """In the memory of a device; None where that is not known."""


class OptimumIntervals(Document):
    """Where the optimum lies when the law is resampled."""

    size_80: tuple[float, float]
    size_95: tuple[float, float]
    tokens_80: tuple[float, float]
    tokens_95: tuple[float, float]


class FlatRange(Document):
    """Sizes that are nearly as good on the same budget."""

    worse_frac: float
    """Bound on how much higher the loss is, of the loss."""
    num_params: tuple[float, float]
    """Smallest and largest N, by the law's convention."""


class Choice(Document):
    """A point of the budget's curve of loss over size."""

    num_params: float
    """N, by the law's convention."""
    num_tokens: float
    loss: float
    worse_frac: float
    """How much higher than the lowest loss, of the loss."""


class Room(Document):
    """What is the most that fits, one thing changed at a time."""

    spec: GPTSpec | None
    """The largest model at the batch and context asked for; None when not even the smallest fits."""
    micro_batch: int
    """Samples that go through a device at once; 0 when not even one does."""
    context: int
    """Tokens of a sequence."""


class Optimum(Document):
    """What a budget buys."""

    budget: Budget
    law: str
    """Name of a published law, or the hash of a fitted one."""
    convention: Convention
    """Which parameters the law's N counts."""
    limit: Literal["usd", "hours", "flops", "memory"]
    """Which part of the budget binds."""
    best: SizedRun
    """The lowest loss that the budget buys, whether it fits in the memory or not."""
    fitting: SizedRun | None
    """The lowest loss of what fits; None when `best` fits, or nothing does."""
    intervals: OptimumIntervals | None
    """None for a published law, and where memory alone decides."""
    size_exponent: float | None
    """The a of N_opt ~ C^a, of a law without a formula around this budget; None where that gives none."""
    flat: tuple[FlatRange, ...]
    near: tuple[Choice, ...]
    """The curve from a quarter of the best size to four times it."""
    memory_limit_bytes: float | None
    """Of one device."""
    room: Room | None
    """Of `fitting` or `best`; None without a memory limit."""
    device: str
    assumptions: tuple[str, ...]
    """What the figures rest on, a sentence each."""
