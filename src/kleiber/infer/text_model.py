"""A language model that is ready to write: behind an engine, with its tokenizer."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch

from kleiber.data import END_OF_TEXT
from kleiber.data.given_tokenizer import open_tokenizer
from kleiber.data.text_tokenizer import TextTokenizer
from kleiber.errors import RunFolderError, UsageError, nearest
from kleiber.infer.choice import Choice, TextRequest, chosen, request_time
from kleiber.infer.decoding import Decoder, open_decoder
from kleiber.infer.decoding.cached_forward import cached_heads
from kleiber.infer.decoding.llamacpp_stepper import LlamaCppStepper
from kleiber.infer.engines import ENGINES, EngineName
from kleiber.infer.identity import identity_of
from kleiber.infer.precision import Precision, in_precision
from kleiber.infer.sessions import require
from kleiber.infer.vocabulary import require_known_tokens
from kleiber.models import Spec, is_ours, load
from kleiber.models.family import FamilyModule
from kleiber.models.hf.spec import HFSpec
from kleiber.models.seen_data import seen_by
from kleiber.models.stored import Activations, Forms, read_activations, read_forms
from kleiber.runs import RunFolder

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
    model_path = RunFolder(folder).find_model()
    shape = None if is_ours(model_path) else HFSpec.usual_shape({"path": str(model_path)})
    module, spec = load(model_path, shape)
    heads = cached_heads(module)  # refuses what writes no text
    tokenizer = open_tokenizer(str(model_path))
    require_known_tokens(tokenizer, seen_by(spec).vocab_size, model_path)
    forms = in_precision(module, read_forms(model_path, module), precision)
    given = _Given(module.eval(), spec, tokenizer, forms, read_activations(model_path), threads)
    choice = None
    if engine == "auto":
        openers: dict[str, Callable[[], Decoder]] = {name: partial(_decoder, name, given) for name in ENGINES}
        request = TextRequest().fitted(heads.context)
        decoder, choice = chosen(
            openers,
            partial(request_time, request=request),
            request,
            identity_of(given.module, forms, given.activations),
            num_threads=threads,
            on_progress=on_progress,
        )
    else:
        decoder = _decoder(engine, given)
    return TextModel(
        decoder=decoder,
        tokenizer=tokenizer,
        end_ids=_end_ids(model_path, tokenizer),
        start_ids=_start_ids(tokenizer),
        folder=folder,
        choice=choice,
    )


@dataclass(frozen=True)
class _Given:
    """A model before it has an engine."""

    module: FamilyModule
    spec: Spec
    tokenizer: TextTokenizer
    forms: Forms
    activations: Activations
    num_threads: int


def _decoder(engine: EngineName, given: _Given) -> Decoder:
    if engine == "llamacpp":
        return _llamacpp(given)
    return open_decoder(
        engine,
        given.module,
        forms=given.forms,
        activations=given.activations,
        num_threads=given.num_threads,
    )


def _llamacpp(given: _Given) -> Decoder:
    """Return the model in llama.cpp, from a file that is written for it and is gone when it has been read."""
    require("llama_cpp", "llamacpp", "The engine llamacpp")
    from kleiber.infer.export.gguf import write_gguf  # noqa: PLC0415 - export stands on the engines

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        write_gguf(
            path, given.module, given.spec, given.tokenizer, forms=given.forms, floats="fp32", name="model"
        )
        stepper = LlamaCppStepper(path, given.num_threads)
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
        end_ids=_end_ids(path.parent, tokenizer),
        start_ids=_start_ids(tokenizer),
        folder=path,
    )


def _end_ids(folder: Path, tokenizer: TextTokenizer) -> frozenset[int]:
    """Return the tokenizer's end of text and those that `generation_config.json` adds."""
    ends = _generation_config(folder).get("eos_token_id")
    more = ends if isinstance(ends, list) else [ends]
    return frozenset((tokenizer.end_id, *(one for one in more if isinstance(one, int))))


def _generation_config(folder: Path) -> dict[str, Any]:
    path = folder / "generation_config.json"
    if not path.is_file():
        return {}
    try:
        asked: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise RunFolderError(
            f"{path}, which says where texts end, is truncated or not valid JSON.", hint=f"rm {path}"
        ) from None
    if not isinstance(asked, dict):
        raise RunFolderError(
            f"{path} must hold a mapping of keys to values.", got=type(asked).__name__, hint=f"rm {path}"
        )
    return asked


def _start_ids(tokenizer: TextTokenizer) -> tuple[int, ...]:
    """Return what the tokenizer itself puts before a text, else the token by which somebody's model knows a beginning."""
    first = (tokenizer.given or {}).get("bos_token")
    if tokenizer.prefix or first in (None, END_OF_TEXT):
        return tokenizer.prefix
    return (tokenizer.backend.get_vocab()[first],)
