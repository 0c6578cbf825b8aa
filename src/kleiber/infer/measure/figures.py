"""What was measured of a model behind an engine."""

from __future__ import annotations

from typing import Literal

from kleiber.runs import Document, Estimate

__all__ = ["EngineFigures", "Workload"]

Workload = Literal["forward", "decode"]


class EngineFigures(Document):
    """Speed and memory of one model behind one engine, beside a reference in the same run."""

    name: str
    """As given to `measure`."""
    engine: str
    precision: str
    """What it computes in."""
    workload: Workload
    """Whole inputs, or one token of each sequence at half the context."""
    num_threads: int
    num_rounds: int
    """Turns that each model had."""
    latency_s: Estimate
    """Of one sample or token alone: the median of the rounds."""
    latency_gain: Estimate
    """How many times sooner than the reference: above 1 is faster."""
    throughput_per_s: Estimate
    """Samples or tokens at the batch where more gains no more."""
    throughput_gain: Estimate
    """How many times the reference's."""
    saturation_batch: int
    """That batch."""
    peak_memory_bytes: int | None = None
    """Of a fresh process that opens it and runs a batch of one, above one that holds the engine alone; None: not measured."""
    notes: tuple[str, ...] = ()
    """What was done otherwise than asked, a sentence each."""
