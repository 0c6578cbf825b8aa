"""`kleiber eval`: the measures of one model, as an engine answers, on a whole split."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kleiber.data import Split
from kleiber.errors import DataError, RecipeError, UsageError, nearest
from kleiber.infer.bench.candidates import TEXT_ALONE
from kleiber.infer.bench.decoder_module import DecoderModule
from kleiber.infer.bench.model import Benched, open_benched
from kleiber.infer.engines import ENGINES, PredictorModule, open_predictor
from kleiber.infer.fastest_predictor import fastest_predictor
from kleiber.infer.precision import PRECISIONS, Precision
from kleiber.infer.text_model import AskedEngine, open_text_model
from kleiber.runs import Document, Estimate, Recipe, TaskName

__all__ = ["Evaluation", "evaluate"]

_IN_TORCH_ALONE: dict[TaskName, str] = {
    "seq2seq": "its measures are of texts that are searched for, token by token",
    "contrastive": "the two towers answer with several tensors",
}


class Evaluation(Document):
    """Measures of a model on a split."""

    run: str
    engine: str
    """That answered."""
    precision: str
    """As asked: `stored`, `fp32`, `int8`, `int4`."""
    computes_in: str
    """As the engine says."""
    source: str
    """Of the data."""
    eval_hash: str
    """Measures compare only within one."""
    split: str
    num_tokens: int
    """Measured on; samples where a sample is the unit."""
    unit: str
    loss: Estimate
    """As minimized, without what only regularizes; [nats/token] of text."""
    metrics: dict[str, Estimate]
    """By name, such as `perplexity`, `bits_per_byte`, `accuracy`."""


def evaluate(
    source: Path,
    *,
    engine: AskedEngine = "torch",
    precision: Precision | None = None,
    split: Split = "val",
    recipe: Recipe | None = None,
    module: str | None = None,
    num_threads: int | None = None,
    on_progress: Callable[[str], None] | None = None,
) -> Evaluation:
    """Return the measures of a model on a whole split.

    A language model answers through the cache that it writes by; its text has no test split.

    Args:
        source: A run folder, or a folder with a model.
        engine: That answers; `auto` is the fastest here.
        precision: Of the weights; None is as stored.
        split: `val` or `test`.
        recipe: Task and data, where it is no run or others are meant.
        module: `my_model.py:Net`, of a folder that holds weights of such a module.
        num_threads: None takes torch's number.
        on_progress: Is told each stage.

    Raises:
        RunFolderError: There is no model, or it does not load.
        DataError: The data is missing or has no such split.
        UsageError: An unknown engine or precision, or model and data are of different kinds.
        MissingExtraError: The engine's package is not installed.
    """
    tell = on_progress or (lambda _: None)
    _require_known(engine, precision)
    model = open_benched(source, name=source.name, recipe=recipe, module=module, on_progress=on_progress)
    if model.data is None or model.task is None:
        raise RecipeError(
            f"{source} is a model without a run: its task and data must be said.",
            hint=f"kleiber eval {source} --recipe recipe.yaml",
        )
    meta = model.data.meta
    if not {"val": meta.num_val_tokens, "test": meta.num_test_tokens}.get(split):
        raise DataError(
            f"data.source '{meta.source}' has no {split} split to be measured on.", hint="--split val"
        )
    tell(f"opening the engine {engine}")
    answering, name, computes_in = _answering(model, engine, precision, num_threads)
    tell(f"measuring on the {split} split")
    metrics = model.task.evaluate(answering, model.data, split)
    reach = metrics.loss_half_width if math.isfinite(metrics.loss_half_width) else 0.0
    return Evaluation(
        run=str(source),
        engine=name,
        precision=precision or "stored",
        computes_in=computes_in,
        source=meta.source,
        eval_hash=meta.eval_hash,
        split=split,
        num_tokens=metrics.num_tokens,
        unit=meta.unit,
        loss=Estimate(value=metrics.loss, low=metrics.loss - reach, high=metrics.loss + reach),
        metrics=dict(metrics.values),
    )


def _require_known(engine: str, precision: str | None) -> None:
    if engine not in (known := (*ENGINES, "auto")):
        raise UsageError(f"unknown engine '{engine}'. {nearest(engine, known)}", hint="--engine torch")
    if precision is not None and precision not in PRECISIONS:
        raise UsageError(
            f"unknown precision '{precision}'. {nearest(precision, PRECISIONS)}", hint="--precision int8"
        )


def _answering(
    model: Benched, engine: AskedEngine, precision: Precision | None, num_threads: int | None
) -> tuple[nn.Module, str, str]:
    """Return what answers as a module, with the engine's name and what it computes in."""
    if model.writes_text:
        text = open_text_model(model.folder, engine=engine, precision=precision, num_threads=num_threads)
        return DecoderModule(text.decoder), text.decoder.engine, text.decoder.precision
    if engine in TEXT_ALONE:
        raise UsageError(
            f"the engine {engine} is for language models.",
            got=str(model.document.path),
            hint="--engine openvino",
        )
    held, forms = model.held(precision)
    reason = _IN_TORCH_ALONE.get(model.task_name)
    if reason is not None and engine not in ("torch", "auto"):
        raise UsageError(
            f"the task {model.task_name} is measured in torch alone: {reason}.",
            got=engine,
            hint="--engine torch",
        )
    if engine == "torch" or reason is not None:
        return held, "torch", "fp32"
    inputs = list(map(torch.from_numpy, model.inputs))
    given: dict[str, Any] = {"forms": forms, "activations": model.activations, "num_threads": num_threads}
    if engine == "auto":
        predictor, _ = fastest_predictor(held, inputs, **given)
    else:
        predictor = open_predictor(engine, held, inputs, **given)
    return PredictorModule(predictor), predictor.engine, predictor.precision
