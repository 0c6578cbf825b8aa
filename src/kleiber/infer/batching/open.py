"""Opens a language model for many requests at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import torch

from kleiber.errors import KleiberError, RecipeError, UsageError, nearest
from kleiber.infer.batching.backend import Backend
from kleiber.infer.batching.batched_text import BatchedText
from kleiber.infer.batching.onnxruntime_rows import OnnxRuntimeRows
from kleiber.infer.batching.pages import Pages
from kleiber.infer.batching.row_stepper import RowStepper, require_memory
from kleiber.infer.batching.rows_at_once import rows_at_once
from kleiber.infer.batching.slots import Slots
from kleiber.infer.batching.speaker import Speaker
from kleiber.infer.batching.timed import many_time
from kleiber.infer.batching.torch_rows import TorchRows
from kleiber.infer.choice import ManyRequest, chosen
from kleiber.infer.decoding.cached_forward import Heads
from kleiber.infer.decoding.open import step_model
from kleiber.infer.loaded_text import LoadedText, load_text
from kleiber.infer.precision import Precision
from kleiber.models.family import title_of

__all__ = ["BATCH_ENGINES", "BatchEngine", "open_batched_text"]

BatchEngine: TypeAlias = Literal["torch", "onnxruntime", "openvino"]
BATCH_ENGINES: tuple[BatchEngine, ...] = get_args(BatchEngine)
"""`torch` and `onnxruntime` write over rows of one cache, `torch` in fp32 always; `openvino` over pages that texts share."""

_FOR_ALL: tuple[BatchEngine, ...] = ("torch", "onnxruntime")
"""Those that write whatever a request asks: openvino draws tokens itself, and knows neither forms nor likeliest tokens."""


def open_batched_text(
    folder: Path,
    *,
    engine: BatchEngine | Literal["auto"] = "auto",
    precision: Precision | None = None,
    num_threads: int | None = None,
    max_running: int = 8,
    max_waiting: int = 64,
    context: int | None = None,
    on_progress: Callable[[str], None] | None = None,
) -> BatchedText:
    """Return a language model that writes for many at once.

    Args:
        folder: Of a run, or in the Hugging Face layout.
        engine: `auto` measures those that write whatever a request asks, once for this model on this machine; openvino, whose
            texts have no form and no likeliest tokens, is asked for by name.
        precision: None is as stored.
        num_threads: None takes torch's number.
        max_running: Texts that are written at once; the cache has room for so many of full length.
        max_waiting: Requests that may wait for one of them to end.
        context: Tokens that a text may have with its prompt; None is all that the model reads.
        on_progress: Is told what takes long.

    Raises:
        RunFolderError: There is no model, or it does not load.
        DataError: There is no tokenizer beside it.
        UsageError: An unknown engine or precision, a model that does not write text, a number out of its range, or a cache that
            takes more memory than is free.
        MissingExtraError: The engine's package is not installed.
        RecipeError: The engine does not take the model.
    """
    if engine not in (known := (*BATCH_ENGINES, "auto")):
        raise UsageError(
            f"unknown engine '{engine}' for many requests at once. {nearest(engine, known)}",
            hint="--engine auto",
        )
    for name, number in (("max_running", max_running), ("max_waiting", max_waiting)):
        if number < 1:
            raise UsageError(f"{name} must be 1 or more.", got=number)
    model = load_text(folder, precision)
    heads = _within(model.heads, context)
    require_memory(heads, max_running)
    speaker = Speaker(model.tokenizer, model.start_ids, model.end_ids, heads.context)
    threads = num_threads or torch.get_num_threads()
    opener = partial(_backend, model=model, heads=heads, max_running=max_running, num_threads=threads)
    batched = partial(BatchedText, speaker=speaker, max_running=max_running, max_waiting=max_waiting)
    if engine != "auto":
        return batched(opener(engine))
    asked = ManyRequest(num_texts=max_running).fitted(heads.context)
    endless = replace(speaker, end_ids=frozenset())
    backend, choice = chosen(
        {name: partial(opener, name) for name in _FOR_ALL},
        partial(many_time, speaker=endless, asked=asked),
        asked,
        model.identity,
        num_threads=threads,
        on_progress=on_progress,
    )
    return batched(backend, choice=choice)


def _within(heads: Heads, context: int | None) -> Heads:
    if context is None:
        return heads
    if not 1 <= context <= heads.context:
        raise UsageError(
            f"a text of this model has 1 to {heads.context} tokens with its prompt.", got=context
        )
    return replace(heads, context=context)


def _backend(
    engine: BatchEngine, *, model: LoadedText, heads: Heads, max_running: int, num_threads: int
) -> Backend:
    if engine == "openvino":
        return Pages(
            model.module,
            model.forms,
            model.activations,
            max_running=max_running,
            num_threads=num_threads,
            context=heads.context,
        )
    try:
        stepper = _rows(engine, model, heads, max_running, num_threads)
        return Slots(stepper, max_running, rows_at_once=rows_at_once(stepper, max_running))
    except KleiberError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a library says to a model that it does not take
        said = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise RecipeError(
            f"{engine} does not run {title_of(model.module)}: {said[0] if said else type(error).__name__}",
            hint="--engine torch",
        ) from None


def _rows(
    engine: BatchEngine, model: LoadedText, heads: Heads, num_rows: int, num_threads: int
) -> RowStepper:
    if engine == "torch":
        return TorchRows(model.module, heads, num_rows, num_threads)
    step = step_model("onnxruntime", model.module, forms=model.forms, activations=model.activations)
    return OnnxRuntimeRows(step, heads, num_rows, num_threads)
