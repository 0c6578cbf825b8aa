"""The receipt of a compression: what a model was before it and is after it, measured on this machine."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, computed_field

from kleiber.runs.document import Document
from kleiber.runs.record import Environment, Estimate, Lineage

__all__ = [
    "BoundReport",
    "CalibrationUsed",
    "CompressionCost",
    "EngineRatio",
    "EngineSide",
    "LeftOut",
    "QualityChange",
    "Receipt",
    "ReceiptSide",
    "StepReport",
    "Tried",
]

WorkloadName = Literal["forward", "decode"]
"""Whole inputs, or one token of each sequence at half the context."""


class StepReport(Document):
    """A step that was taken."""

    step: str
    """As it would be typed."""
    seconds: float
    notes: tuple[str, ...] = ()
    """What it had to say: layers that were kept, and why."""


class EngineSide(Document):
    """One model behind one engine."""

    engine: str
    workload: WorkloadName
    precision: str
    """What it computes in."""
    latency_s: Estimate
    """Of one sample or token alone, the median."""
    throughput_per_s: Estimate
    """Samples or tokens at the batch where more gains no more."""
    saturation_batch: int
    """That batch."""
    peak_memory_bytes: int | None = None
    """Above a process that holds the engine alone; None where it was not measured."""
    notes: tuple[str, ...] = ()
    """What was done otherwise than asked, a sentence each."""


class ReceiptSide(Document):
    """A model before or after."""

    num_params: int
    """Numbers that are stored: of a weight in two factors those of the factors."""
    num_nonzero: int
    """Of them, those that are not 0."""
    raw_bytes: int
    """Of these numbers in fp32."""
    stored_bytes: int
    """Of weights and config on disk."""
    macs: int
    """Multiply-adds of a forward pass on one sample: half the operations that the family's spec counts, less what factors save."""
    engines: tuple[EngineSide, ...] = ()


class EngineRatio(Document):
    """After over before on one engine, both timed in turns in one run."""

    engine: str
    workload: WorkloadName
    num_threads: int
    num_rounds: int
    latency: Estimate
    """At batch 1: below 1 is faster."""
    throughput: Estimate
    """At saturation: above 1 is faster."""
    peak_memory: float | None = None


class LeftOut(Document):
    """An engine that was not measured."""

    engine: str
    workload: WorkloadName
    reason: str


class QualityChange(Document):
    """A measure on the same samples before and after, with paired 95% bootstrap intervals."""

    name: str
    """`loss`, `perplexity`, `accuracy`, `recall_at_1`."""
    engine: str
    """That answered, before and after; a measure of the original without an engine of its own is that of torch."""
    is_main: bool
    """Whether the gate goes by it."""
    before: Estimate
    after: Estimate
    difference: Estimate
    """After less before."""
    ratio: Estimate
    """After over before."""


class CalibrationUsed(Document):
    """What the steps looked at."""

    source: str
    num_samples: int
    seed: int
    hash: str
    """Of all arrays."""
    notes: tuple[str, ...] = ()


class CompressionCost(Document):
    """What the compression itself took."""

    seconds: float
    """Of all steps, and of a search of all that it tried."""
    training_tokens: int
    """Trained on by what recovers; samples where a sample is the unit."""
    training_frac: float
    """Of what the original was trained on."""


class BoundReport(Document):
    """One bound of the gate."""

    name: str
    asked: str
    """As it was typed."""
    limit: float
    """In the unit of `got`."""
    got: float
    unit: str
    is_met: bool
    is_within_noise: bool = False
    """Whether the interval of `got` reaches to both sides of the limit."""


class Tried(Document):
    """A pipeline that a search tried."""

    steps: tuple[str, ...]
    """As they would be typed."""
    rung: int
    """Of successive halving: 0 is the shortest recovery; finalists have the last."""
    quality_loss: float
    """By the gate's measure, a share; below 0 is better than the original."""
    stored_bytes: int
    latency_s: float | None = None
    """At batch 1, where the gate asks for speed."""
    training_tokens: int = 0
    is_on_front: bool = False
    """Whether nothing that was tried is at least as good in quality and bytes (and latency) and better in one."""
    is_chosen: bool = False


class Receipt(Document):
    """One compression: `receipt.json`."""

    version: Literal[1] = 1
    source: str
    """The folder of the original, as it was typed."""
    asked_hash: str
    """Of the original and of all that was asked: the same command gives this receipt again."""
    steps: tuple[StepReport, ...]
    lineage: tuple[Lineage, ...]
    split: Literal["val", "test"]
    """Where quality was measured."""
    before: ReceiptSide
    after: ReceiptSide
    engines: tuple[EngineRatio, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    engine: str
    """The one that the gate goes by."""
    quality: tuple[QualityChange, ...]
    calibration: CalibrationUsed
    seed: int
    cost: CompressionCost
    predicted_bytes: int
    """Of the stored weights, by arithmetic before they were written."""
    gate: tuple[BoundReport, ...] = ()
    says: tuple[str, ...] = ()
    """What a reader should know, a sentence each."""
    tried: tuple[Tried, ...] = Field(default=())
    """By a search; empty where the steps were given."""
    environment: Environment
    created_at: str

    @computed_field  # type: ignore[prop-decorator] # mypy does not follow decorated properties
    @property
    def stored_ratio(self) -> float:
        """After over before of the bytes on disk."""
        return self.after.stored_bytes / self.before.stored_bytes

    @computed_field  # type: ignore[prop-decorator] # mypy does not follow decorated properties
    @property
    def is_met(self) -> bool:
        """Whether every bound is."""
        return all(bound.is_met for bound in self.gate)

    @property
    def main_quality(self) -> QualityChange:
        """What the gate goes by: the main measure on its engine."""
        return next(one for one in self.quality if one.is_main and one.engine == self.engine)
