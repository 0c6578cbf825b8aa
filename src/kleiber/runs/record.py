"""What happened: the record of one run."""

from __future__ import annotations

import math
import platform
import sys
from datetime import UTC, datetime
from importlib import metadata
from typing import Literal

from pydantic import Field

from kleiber.runs.counts import ParamCount
from kleiber.runs.data_shape import DataShape
from kleiber.runs.document import Document
from kleiber.runs.guessing import is_above_guessing
from kleiber.runs.machine import num_cores
from kleiber.runs.recipe import Recipe

__all__ = [
    "DataMeta",
    "Environment",
    "Estimate",
    "InputScale",
    "Lineage",
    "Predicted",
    "Record",
    "Result",
    "environment",
    "now",
]


class Estimate(Document):
    """A measure with its 95% interval."""

    value: float
    low: float
    high: float


class InputScale(Document):
    """How numbers are normalized before a model reads them: (x - offset) / scale, for each channel or column."""

    offset: tuple[float, ...]
    scale: tuple[float, ...]


class DataMeta(Document):
    """Which data, exactly."""

    source: str
    unit: Literal["token", "sample"] = "token"
    """What is counted: tokens of text that is modelled, samples of all else."""
    shape: DataShape
    corpus_hash: str
    """Of the documents or samples in order, after cleaning."""
    python_version: str
    """The `stdlib` source is this Python's own library."""
    tokenizer_hash: str | None = None
    """None where there is no text."""
    eval_hash: str
    """Of the fixed evaluation set: losses compare only within one."""
    num_documents: int
    """Texts, or samples of all splits."""
    num_train_tokens: int
    """Unique training tokens; samples where a sample is the unit."""
    num_val_tokens: int
    """Tokens of the fixed evaluation set; samples where a sample is the unit."""
    num_test_tokens: int = 0
    """Of the test split, which is measured once, after training; 0 without one."""
    val_bytes_per_token: float | None = None
    """Bytes of text a token of the evaluation set stands for; None where a sample is the unit."""
    classes: tuple[str, ...] = ()
    """Names, by label."""
    class_counts: tuple[int, ...] = ()
    """Training samples of each class."""
    target_mean: tuple[float, ...] = ()
    """Of each value to predict, over the training split: models predict (value - mean) / std."""
    target_std: tuple[float, ...] = ()
    input_scales: dict[str, InputScale] = Field(default_factory=dict)
    """By what goes in, `images`, `features` or `series`: what a model must be given again when it is used."""
    num_duplicates: int | None = None
    """Samples removed as copies of others; None where nobody looked."""
    num_bad_samples: int = 0
    """That could not be decoded and were left out, as asked."""
    notes: tuple[str, ...] = ()
    """What a reader should know of the data, a sentence each."""


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
    operation: Literal["branch", "compress"]
    """`branch`: a cool-down leaving a trunk; `compress`: a smaller model made of the run's."""
    step: int
    """Of the run, that it left at; 0 of a model without a run."""


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
    """Training loss over the last logged interval."""
    val_loss: float
    """On the fixed evaluation set; [nats/token] of text, [nats] of classes, squares of deviations of a regression."""
    val_loss_half_width: float | None
    """Half of the 95% interval of `val_loss` over the sequences of the evaluation set; None of a single one."""
    val_metrics: dict[str, Estimate] = Field(default_factory=dict)
    """Measures on the evaluation set by name, such as `accuracy`."""
    test_loss: float | None = None
    """On the test split, after training; None without one."""
    test_metrics: dict[str, Estimate] = Field(default_factory=dict)
    stopped_by: str | None = None
    """What ended the run before its last step, in a sentence."""
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

    version: Literal[2] = 2
    kind: Literal["train", "compress"] = "train"
    """A `compress` trained nothing from the start: it has no result, and its receipt says what was measured."""
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
    is_diverged: bool = False
    """Whether it failed because its loss left the finite numbers."""

    @property
    def divergence(self) -> str | None:
        """How it diverged, in a sentence: in the midst of training, or to a loss above that of guessing; None if it did not."""
        if self.is_diverged:
            return self.error or "It diverged."
        vocab_size = getattr(self.data.shape, "vocab_size", None)
        if self.result and vocab_size and is_above_guessing(self.result.val_loss, vocab_size):
            said = f"a loss of {self.result.val_loss:.4g}, above ln {vocab_size} = {math.log(vocab_size):.4g}"
            return f"It ended at {said}, that of guessing."
        return None

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
