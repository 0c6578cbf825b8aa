"""A language model that is ready to write: behind an engine, with its tokenizer."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

import torch

from kleiber.data.text_tokenizer import TextTokenizer
from kleiber.errors import UsageError, nearest
from kleiber.infer.choice import Choice, TextRequest, chosen, request_time
from kleiber.infer.decoding import Decoder, open_decoder
from kleiber.infer.decoding.llamacpp_stepper import LlamaCppStepper
from kleiber.infer.engines import ENGINES, EngineName
from kleiber.infer.loaded_text import LoadedText, end_ids, load_text, start_ids
from kleiber.infer.precision import Precision
from kleiber.infer.sessions import require

__all__ = ["AskedEngine", "TextModel", "open_text_model"]

AskedEngine: TypeAlias = EngineName | Literal["auto"]


@dataclass(frozen=True)
class TextModel:
    """A decoder and how text becomes its tokens."""

    decoder: Decoder
    tokenizer: TextTokenizer
    end_ids: frozenset[int]
    """Tokens that end a text."""
    start_ids: tuple[int, ...]
    """Tokens that stand before a text; none where texts begin with their first word."""
    folder: Path
    """Of the run or the model."""
    choice: Choice | None = None
    """How the engine was found, where `auto` was asked."""


def open_text_model(
    folder: Path,
    *,
    engine: AskedEngine = "auto",
    precision: Precision | None = None,
    num_threads: int | None = None,
    on_progress: Callable[[str], None] | None = None,
) -> TextModel:
    """Return a language model behind an engine.

    Args:
        folder: Of a run, or in the Hugging Face layout; or a `.gguf` file, which llama.cpp alone reads.
        engine: `auto` measures those that are installed, once for this model on this machine.
        precision: None is as stored.
        num_threads: None takes torch's number.
        on_progress: Is told what takes long.

    Raises:
        RunFolderError: There is no model, or it does not load.
        DataError: There is no tokenizer beside it, or one that is not its own.
        UsageError: An unknown engine or precision, a precision that the model cannot have, or a model that does not write text.
        MissingExtraError: The engine's package is not installed.
        RecipeError: The engine does not take the model.
    """
    if engine not in (known := (*ENGINES, "auto")):
        raise UsageError(f"unknown engine '{engine}'. {nearest(engine, known)}", hint="--engine auto")
    threads = num_threads or torch.get_num_threads()
    if folder.suffix == ".gguf":
        return _of_gguf(folder, engine, precision, threads)
    loaded = load_text(folder, precision)
    choice = None
    if engine == "auto":
        openers: dict[str, Callable[[], Decoder]] = {
            name: partial(_decoder, name, loaded, threads) for name in ENGINES
        }
        request = TextRequest().fitted(loaded.heads.context)
        decoder, choice = chosen(
            openers,
            partial(request_time, request=request),
            request,
            loaded.identity,
            num_threads=threads,
            on_progress=on_progress,
        )
    else:
        decoder = _decoder(engine, loaded, threads)
    return TextModel(
        decoder=decoder,
        tokenizer=loaded.tokenizer,
        end_ids=loaded.end_ids,
        start_ids=loaded.start_ids,
        folder=folder,
        choice=choice,
    )


def _decoder(engine: EngineName, given: LoadedText, num_threads: int) -> Decoder:
    if engine == "llamacpp":
        return _llamacpp(given, num_threads)
    return open_decoder(
        engine,
        given.module,
        forms=given.forms,
        activations=given.activations,
        num_threads=num_threads,
    )


def _llamacpp(given: LoadedText, num_threads: int) -> Decoder:
    """Return the model in llama.cpp, from a file that is written for it and is gone when it has been read."""
    require("llama_cpp", "llamacpp", "The engine llamacpp")
    from kleiber.infer.export.gguf import write_gguf  # noqa: PLC0415 - export stands on the engines

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        write_gguf(
            path, given.module, given.spec, given.tokenizer, forms=given.forms, floats="fp32", name="model"
        )
        stepper = LlamaCppStepper(path, num_threads)
    return Decoder(stepper, stepper.context)


def _of_gguf(path: Path, engine: AskedEngine, precision: Precision | None, num_threads: int) -> TextModel:
    """Return what a `.gguf` file holds."""
    if engine not in ("auto", "llamacpp") or precision is not None:
        raise UsageError(
            f"{path} is read by llama.cpp alone, in the precision that it is stored in.",
            got={"engine": engine, "precision": precision},
            hint="--engine llamacpp",
        )
    from kleiber.infer.export.gguf import read_tokenizer  # noqa: PLC0415 - export stands on the engines

    stepper, tokenizer = LlamaCppStepper(path, num_threads), read_tokenizer(path)
    return TextModel(
        decoder=Decoder(stepper, stepper.context),
        tokenizer=tokenizer,
        end_ids=end_ids(path.parent, tokenizer),
        start_ids=start_ids(tokenizer),
        folder=path,
    )
