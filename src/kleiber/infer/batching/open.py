"""Opens a language model for many requests at once."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import torch

from kleiber.errors import KleiberError, UsageError, nearest
from kleiber.infer.batching.backend import Backend
from kleiber.infer.batching.batched_text import BatchedText
from kleiber.infer.batching.pages import Pages
from kleiber.infer.batching.slots import Slots
from kleiber.infer.batching.speaker import Speaker
from kleiber.infer.precision import Precision, in_precision
from kleiber.infer.text_model import open_text_model
from kleiber.models import load
from kleiber.models.stored import read_activations, read_forms
from kleiber.runs import RunFolder

__all__ = ["BATCH_ENGINES", "BatchEngine", "open_batched_text"]

BatchEngine: TypeAlias = Literal["torch", "openvino"]
BATCH_ENGINES: tuple[BatchEngine, ...] = get_args(BatchEngine)
"""`torch` computes in fp32 over slots of one cache, `openvino` in what weights are stored in, over pages that texts share."""


def open_batched_text(
    folder: Path,
    *,
    engine: BatchEngine | Literal["auto"] = "auto",
    precision: Precision | None = None,
    num_threads: int | None = None,
    max_running: int = 8,
    max_waiting: int = 64,
) -> BatchedText:
    """Return a language model that writes for many at once.

    Args:
        folder: Of a run, or in the Hugging Face layout.
        engine: `auto` takes openvino where it is installed and goes with the model, else torch; the result says which.
        precision: None is as stored.
        num_threads: None takes torch's number.
        max_running: Texts that are written at once; the cache has room for so many of full length.
        max_waiting: Requests that may wait for one of them to end.

    Raises:
        RunFolderError: There is no model, or it does not load.
        DataError: There is no tokenizer beside it.
        UsageError: An unknown engine or precision, a model that does not write text, or a number that is not positive.
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
    # Its decoder is not kept: what is wanted is how text becomes tokens and ends.
    model = open_text_model(folder, engine="torch", num_threads=num_threads)
    speaker = Speaker(model.tokenizer, model.start_ids, model.end_ids, model.decoder.context)
    threads = num_threads or torch.get_num_threads()
    backend = _backend(folder, engine, precision, max_running, threads)
    return BatchedText(backend, speaker, max_running=max_running, max_waiting=max_waiting)


def _backend(
    folder: Path,
    engine: BatchEngine | Literal["auto"],
    precision: Precision | None,
    max_running: int,
    num_threads: int,
) -> Backend:
    path = RunFolder(folder).find_model()
    module, _ = load(path)
    module = module.eval().requires_grad_(requires_grad=False)
    forms, activations = in_precision(module, read_forms(path, module), precision), read_activations(path)
    if engine == "openvino":
        return Pages(module, forms, activations, max_running=max_running, num_threads=num_threads)
    if engine == "auto" and importlib.util.find_spec("openvino_genai") is not None:
        try:
            return Pages(module, forms, activations, max_running=max_running, num_threads=num_threads)
        except KleiberError as error:
            return Slots(module, max_running, num_threads, notes=(f"openvino does not go: {error.message}",))
    return Slots(module, max_running, num_threads)
