"""A benchmark: speed, memory and quality of models by engine and precision, beside the limits of the machine."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from kleiber.runs.document import Document
from kleiber.runs.receipt import QualityChange
from kleiber.runs.record import Environment, Estimate

__all__ = [
    "BenchCall",
    "BenchLeftOut",
    "BenchMachine",
    "BenchModel",
    "BenchResult",
    "BenchRow",
    "BenchSettings",
    "CallKind",
    "ComputePeak",
    "MemoryRate",
]

CallKind = Literal["prefill", "decode", "forward"]
"""A prompt read until its first new token is known, one more token of each sequence, or whole samples."""


class BenchSettings(Document):
    """What was asked."""

    engines: tuple[str, ...] = ()
    """Names of engines, `auto`, or none: all that run the model."""
    precisions: tuple[str, ...] = ("stored",)
    """`stored` is as the model's folder holds it."""
    batches: tuple[int, ...] = Field(default=(1,), min_length=1)
    """Sequences or samples at once."""
    prompt_tokens: int | None = Field(default=None, ge=1)
    """That are read; None is 512, or less where a model's context is short."""
    new_tokens: int | None = Field(default=None, ge=1)
    """That follow them; None is 128, or what the context leaves."""
    num_rounds: int = Field(default=5, ge=2)
    """Turns of each model, engine, precision and batch."""
    num_threads: int = Field(ge=1)
    block_s: float = Field(default=0.5, gt=0)
    """About how long a turn of whole samples lasts."""
    has_quality: bool = Field(default=True, strict=True)
    quality_samples: int = Field(default=256, ge=2)
    """Of the split, at most: sequences of a text."""
    max_quality_loss: float = Field(default=0.01, gt=0)
    """Share of the main measure that the fastest may lose."""
    has_memory: bool = Field(default=True, strict=True)
    """Whether each is opened in a fresh process too, for its load time and peak memory."""
    seed: int = 0
    """Of the order of turns, of resamples, and of tokens where a model has no data."""


class MemoryRate(Document):
    """How fast a working set is read again and again, and only read."""

    working_set_bytes: int
    bytes_per_s: Estimate
    """Of the rounds, the median."""


class ComputePeak(Document):
    """How fast an engine multiplies large matrices in a precision."""

    precision: str
    engine: str
    flops_per_s: Estimate
    """Of the rounds, the median."""


class BenchMachine(Document):
    """Where it ran, and what that can do with as many threads."""

    processor: str
    memory_bytes: int
    """That were free at the start."""
    environment: Environment
    memory_rates: tuple[MemoryRate, ...]
    """By working set, smallest first."""
    compute_peaks: tuple[ComputePeak, ...]


class BenchModel(Document):
    """A model that was measured."""

    name: str
    """Unique in the benchmark."""
    path: str
    """As it was typed."""
    family: str
    num_params: int
    stored_bytes: int
    """Of weights and config on disk."""
    unit: Literal["token", "sample", "image"]
    """What throughput counts."""
    context: int | None = None
    """Longest sequence of a language model [tokens]."""
    data: str | None = None
    """Source of its inputs; None where they were random."""
    eval_hash: str | None = None
    """Of the split that quality was measured on."""
    notes: tuple[str, ...] = ()


class BenchCall(Document):
    """One kind of call at one batch: measured, beside what the machine allows."""

    kind: CallKind
    batch: int
    num_tokens: int | None = None
    """Of each sequence: the prompt's, or the new ones that a turn made; None of samples."""
    num_timed: int
    """Single times, all rounds together."""
    p50_s: Estimate
    """Median time of a call: of a prefill the time to the first token, of decoding that of a token of each sequence."""
    p95_s: Estimate
    p99_s: Estimate
    throughput_per_s: Estimate
    """Tokens, images or samples: the median of the rounds."""
    gain: Estimate
    """How many times the throughput of the reference, from the same rounds."""
    flops: float
    """Of a call, counted [FLOP]."""
    read_bytes: float
    """That a call must read, counted: weights in their precision once, and the cache."""
    bound: Literal["compute", "bandwidth"]
    """The limit that is nearer."""
    limit_s: float
    """Least time of a call on this machine."""
    limit_frac: Estimate
    """That over the time it took, from the same rounds: 1 is at the limit."""
    predicted_s: float | None = None
    """Written before the measurement; None where nothing was known to predict it by."""
    predicted_by: str | None = None
    is_fastest: bool = False
    """Among all whose quality passes, in this kind of call at this batch."""


class BenchRow(Document):
    """One model behind one engine in one precision."""

    model: str
    engine: str
    """That ran it."""
    asked_engine: str
    """`auto` where the engine was chosen by measuring."""
    precision: str
    """As asked."""
    computes_in: str
    """As the engine says."""
    load_s: float | None = None
    """To open it in a fresh process, the engine's packages imported; None: not measured."""
    peak_memory_bytes: int | None = None
    """Of that process with calls at batch 1, above one that holds the engine alone."""
    calls: tuple[BenchCall, ...]
    quality: tuple[QualityChange, ...] = ()
    """Against the reference, on the same samples; empty where it was not measured."""
    quality_loss: Estimate | None = None
    """Share of the main measure that is lost; below 0 it is better."""
    passes: bool | None = None
    """Whether the loss is within the bound; None without quality."""
    notes: tuple[str, ...] = ()
    """What was done otherwise than asked, a sentence each."""

    @property
    def title(self) -> str:
        """Engine and precision, as tables name a row."""
        return f"{self.engine} {self.precision}"

    def call(self, kind: str, batch: int) -> BenchCall | None:
        """Return what was measured of a kind of call at a batch; None where it was not."""
        return next((one for one in self.calls if (one.kind, one.batch) == (kind, batch)), None)


class BenchLeftOut(Document):
    """What was not measured."""

    model: str
    engine: str
    precision: str
    reason: str


class BenchResult(Document):
    """One benchmark: `bench.json`."""

    version: Literal[1] = 1
    started_at: str
    """Before anything was measured: when what was predicted was."""
    created_at: str
    settings: BenchSettings
    machine: BenchMachine
    models: tuple[BenchModel, ...]
    reference: str
    """What gains are over: model, engine and precision."""
    rows: tuple[BenchRow, ...]
    left_out: tuple[BenchLeftOut, ...] = ()
    says: tuple[str, ...] = ()
    """What a reader should know, a sentence each."""
