"""What happened: the record of one run."""

from __future__ import annotations

import platform
import sys
from datetime import UTC, datetime
from importlib import metadata
from typing import Literal

from kleiber.runs.counts import ParamCount
from kleiber.runs.document import Document
from kleiber.runs.machine import num_cores
from kleiber.runs.recipe import Recipe

__all__ = ["DataMeta", "Environment", "Lineage", "Predicted", "Record", "Result", "environment", "now"]


class DataMeta(Document):
    """Which data, exactly."""

    source: str
    corpus_hash: str
    """Of the documents in order, after cleaning."""
    python_version: str
    """The `stdlib` source is this Python's own library."""
    tokenizer_hash: str
    eval_hash: str
    """Of the fixed evaluation set: losses compare only within one."""
    vocab_size: int
    context: int
    num_documents: int
    num_train_tokens: int
    """Unique training tokens."""
    num_val_tokens: int
    """Tokens of the fixed evaluation set."""
    val_bytes_per_token: float
    """Bytes of text a token of the evaluation set stands for."""


class Environment(Document):
    """Where it ran."""

    kleiber: str
    python: str
    torch: str
    platform: str
    num_cores: int
    num_threads: int


class Lineage(Document):
    """A run that this one came from."""

    run: str
    """Its name."""
    operation: Literal["branch"]
    """`branch`: a cool-down leaving a trunk."""
    step: int


class Predicted(Document):
    """What was said of the run before it started."""

    forecast_hash: str | None = None
    """Of the `Forecast` that was written before this run."""
    total_time_s: float | None = None
    step_time_s: float | None = None
    peak_memory_bytes: float | None = None
    at: str | None = None


class Result(Document):
    """What was measured."""

    num_steps: int
    num_tokens: int
    loss: float
    """Training loss over the last logged interval [nats/token]."""
    val_loss: float
    """[nats/token] on the fixed evaluation set."""
    val_loss_half_width: float | None
    """Half of the 95% interval of `val_loss` over the sequences of the evaluation set; None of a single one."""
    val_bits_per_byte: float
    tokens_per_s: float
    """Over training steps, without validation and checkpoints."""
    step_time_s: float
    """Median of a training step."""
    mfu_frac: float
    """Model FLOPs per second over this machine's measured peak with the same number of threads."""
    peak_flops_per_s: float
    """That peak, measured with fp32 matrix products."""
    total_time_s: float
    """Wall clock of the run, all interruptions left out."""
    peak_memory_bytes: int
    """Peak resident memory above what the process held before the model was built."""


class Record(Document):
    """One run: what was asked, what it was asked of, what came out."""

    version: Literal[1] = 1
    kind: Literal["train"] = "train"
    run: str
    status: Literal["running", "finished", "interrupted", "failed"]
    started_at: str
    ended_at: str | None = None
    recipe: Recipe
    recipe_hash: str
    seed: int
    environment: Environment
    data: DataMeta
    num_params: ParamCount
    train_flops: float
    """Counted, not measured."""
    flops_convention: str
    lineage: tuple[Lineage, ...] = ()
    predicted: Predicted = Predicted()
    result: Result | None = None
    error: str | None = None
    """Why it failed, in one sentence."""

    @property
    def trunk(self) -> str:
        """The trunk this run shares its steps with: its own name unless it is a branch."""
        return next((link.run for link in self.lineage if link.operation == "branch"), self.run)


def environment(num_threads: int) -> Environment:
    """Return where this process runs."""
    return Environment(
        kleiber=metadata.version("kleiber"),
        python=platform.python_version(),
        torch=metadata.version("torch"),
        platform=f"{sys.platform}-{platform.machine()}",
        num_cores=num_cores(),
        num_threads=num_threads,
    )


def now() -> str:
    """Return the time in UTC to the millisecond, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
