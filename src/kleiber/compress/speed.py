"""Latency, throughput and memory of a model before and after, engine by engine, in turns."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from kleiber.compress.subject import Subject
from kleiber.compress.uses import inputs_of, run_batch
from kleiber.data import Batch, Split
from kleiber.errors import KleiberError, UsageError
from kleiber.infer.engines import EngineName
from kleiber.infer.measure import EngineFigures, Opening, measure, staged_decode, staged_forward
from kleiber.infer.sessions import require
from kleiber.runs import Document, Estimate
from kleiber.runs.receipt import EngineRatio, EngineSide, LeftOut, WorkloadName

__all__ = ["Measuring", "Speeds", "first_batch", "measured_speeds", "require_engine"]

_PACKAGES: dict[EngineName, tuple[str, tuple[str, ...]]] = {
    "torch": ("", ()),
    "compiled": ("", ()),
    "onnxruntime": ("onnx", ("onnxruntime", "onnxscript")),
    "openvino": ("openvino", ("openvino", "onnxscript")),
}
"""Extra and packages of each engine: a graph is exported before it runs."""

_SAMPLES = 32
"""Of real inputs that engines are given; repeated where a batch is larger."""


class Measuring(Document):
    """How engines are timed."""

    engines: tuple[EngineName, ...] = ("torch", "onnxruntime", "openvino")
    """Those that are not installed, or refuse the model, are listed with the reason."""
    num_threads: int | None = Field(default=None, ge=1)
    """None is torch's number."""
    num_rounds: int = Field(default=21, ge=2)
    """Turns of each model at either batch."""
    block_s: float = Field(default=0.05, gt=0)
    """About how long a turn lasts."""
    max_batch: int = Field(default=256, ge=1)
    is_brief: bool = Field(default=False, strict=True)
    """Whether of language models only decoding is timed, where an engine decodes."""
    has_memory: bool = Field(default=True, strict=True)
    """Whether peak memory is measured, in a fresh process for each model and engine."""


@dataclass(frozen=True)
class Speeds:
    """What was measured of two models."""

    before: tuple[EngineSide, ...] = ()
    after: tuple[EngineSide, ...] = ()
    ratios: tuple[EngineRatio, ...] = ()
    left_out: tuple[LeftOut, ...] = field(default=())


def require_engine(engine: EngineName) -> None:
    """Refuse an engine that was asked for by name and is not installed.

    Raises:
        UsageError: No receipt measures it.
        MissingExtraError: It is not.
    """
    if engine not in _PACKAGES:
        raise UsageError(
            f"{engine} is not measured in receipts: it runs files of its own.",
            hint=f"--engine {next(iter(_PACKAGES))}",
        )
    extra, packages = _PACKAGES[engine]
    for package in packages:
        require(package, extra, f"The engine {engine}")


def measured_speeds(
    before: Subject, after: Subject, split: Split, measuring: Measuring, *, seed: int = 0
) -> Speeds:
    """Return the speed of two models of the same data on every engine that runs both.

    Args:
        before: The original.
        after: What was made of it.
        split: Where real inputs come from.
        measuring: How.
        seed: Of the order of turns and of the resamples.
    """
    speeds = Speeds()
    batch = first_batch(before, split, _SAMPLES)
    workloads: tuple[WorkloadName, ...] = (
        ("decode", "forward") if before.recipe.task.name == "lm" else ("forward",)
    )
    if not isinstance(run_batch(before.module, batch), Tensor):
        reason = "it answers with several tensors, and engines answer with one."
        return Speeds(
            left_out=tuple(
                LeftOut(engine=one, workload="forward", reason=reason) for one in measuring.engines
            )
        )
    for engine in measuring.engines:
        for workload in workloads:
            try:
                pair = _measured(engine, workload, (before, after), batch, measuring, seed=seed)
            except KleiberError as error:
                left_out = LeftOut(engine=engine, workload=workload, reason=error.message)
                speeds = Speeds(speeds.before, speeds.after, speeds.ratios, (*speeds.left_out, left_out))
                continue
            speeds = Speeds(
                (*speeds.before, _side(pair[0])),
                (*speeds.after, _side(pair[1])),
                (*speeds.ratios, _ratio(*pair)),
                speeds.left_out,
            )
            if measuring.is_brief:
                break
    return speeds


def first_batch(subject: Subject, split: Split, num_samples: int) -> Batch:
    """Return the first samples of a split."""
    return next(iter(subject.data.batches(split, 0, num_samples)))


def _measured(
    engine: EngineName,
    workload: WorkloadName,
    subjects: tuple[Subject, Subject],
    batch: Batch,
    measuring: Measuring,
    *,
    seed: int,
) -> tuple[EngineFigures, EngineFigures]:
    num_threads = measuring.num_threads or torch.get_num_threads()
    with tempfile.TemporaryDirectory(prefix="kleiber-") as place:
        openings = {
            name: _staged(engine, workload, Path(place) / name, subject, batch, num_threads=num_threads)
            for name, subject in zip(("before", "after"), subjects, strict=True)
        }
        first, second = measure(
            {name: opening.open() for name, opening in openings.items()},
            "before",
            num_threads=num_threads,
            num_rounds=measuring.num_rounds,
            block_s=measuring.block_s,
            max_batch=measuring.max_batch,
            openings=openings if measuring.has_memory else None,
            seed=seed,
        )
    return first, second


def _staged(
    engine: EngineName,
    workload: WorkloadName,
    folder: Path,
    subject: Subject,
    batch: Batch,
    *,
    num_threads: int,
) -> Opening:
    how: dict[str, Any] = {
        "num_threads": num_threads,
        "forms": subject.forms,
        "activations": subject.activations,
    }
    if workload == "decode":
        tokens_BT = batch.tokens[:, :-1]
        return staged_decode(engine, folder, subject.module, subject.spec, tokens_BT, **how)
    inputs: Sequence[npt.NDArray[Any]] = [one.numpy() for one in inputs_of(batch)]
    return staged_forward(engine, folder, subject.module, subject.spec, inputs, **how)


def _side(figures: EngineFigures) -> EngineSide:
    same = {key: getattr(figures, key) for key in EngineSide.model_fields}
    return EngineSide(**same)


def _ratio(before: EngineFigures, after: EngineFigures) -> EngineRatio:
    gain = after.latency_gain  # of the original over the new one
    memory = None
    if before.peak_memory_bytes and after.peak_memory_bytes is not None:
        memory = after.peak_memory_bytes / before.peak_memory_bytes
    return EngineRatio(
        engine=after.engine,
        workload=after.workload,
        num_threads=after.num_threads,
        num_rounds=after.num_rounds,
        latency=Estimate(value=1 / gain.value, low=1 / gain.high, high=1 / gain.low),
        throughput=after.throughput_gain,
        peak_memory=memory,
    )
