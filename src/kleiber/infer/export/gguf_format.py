"""One file for llama.cpp: weights, sizes and tokenizer."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from kleiber.errors import RecipeError
from kleiber.infer.decoding.decoder import Stepper
from kleiber.infer.decoding.llamacpp_stepper import LlamaCppStepper, tokenize
from kleiber.infer.export.gguf import GgufFile, write_gguf
from kleiber.infer.export.hf_format import transformers_model, write_tokenizer
from kleiber.infer.export.job import Accuracy, Job, Part, Written, package
from kleiber.infer.export.steppers import TransformersText
from kleiber.infer.sessions import require
from kleiber.models.family import title_of

__all__ = ["write_gguf_format"]

_FILE = "model.gguf"


def write_gguf_format(job: Job, folder: Path) -> Written:
    """Write a language model as GGUF, and open it in llama.cpp; without that, in transformers, which reads the file too.

    Raises:
        RecipeError: It is no language model, has no tokenizer, or is of an architecture that GGUF is not written of.
        MissingExtraError: gguf is not installed, or neither llama-cpp-python nor transformers.
    """
    original = job.original
    if not original.writes_text or original.tokenizer is None:
        raise RecipeError(
            f"GGUF holds language models with their tokenizer; {title_of(original.module)} is none.",
            hint="--format onnx   holds any model",
        )
    file = write_gguf(
        folder / _FILE,
        original.module,
        original.spec,
        original.tokenizer,
        forms=original.forms,
        floats="f16" if job.precision == "f16" else "fp32",
        name=Path(original.typed).resolve().name,
    )
    write_tokenizer(original, folder)  # for programs that read texts by themselves
    has_llamacpp = importlib.util.find_spec("llama_cpp") is not None
    stepper: Stepper = (
        LlamaCppStepper(folder / _FILE, num_threads=job.num_threads)
        if has_llamacpp
        else TransformersText(_by_transformers(job, file, folder))
    )
    accuracies: dict[str, Accuracy] = {"F32": "fp32", "F16": "f16", "F16, F32": "f16"}
    return Written(
        parts=(Part(_FILE, f"weights, sizes and tokenizer, of the kind {file.kind}"),),
        precision=file.precision,
        accuracy=accuracies.get(file.precision, "bits"),
        checked_with=package("llama_cpp_python") if has_llamacpp else package("transformers"),
        stepper=stepper,
        notes=(*file.notes, *_read_alike(job, folder / _FILE, has_llamacpp=has_llamacpp)),
    )


def _by_transformers(job: Job, file: GgufFile, folder: Path) -> Any:
    """Return the model of the file as transformers reads it, which takes no size of heads from it: the config says that.

    Raises:
        MissingExtraError: transformers reads GGUF with accelerate alone.
    """
    require("accelerate", "gguf", "Reading GGUF back without llama-cpp-python")
    config = job.original.config() | {"intermediate_size": file.mlp_width}
    return transformers_model(folder, config["architectures"][0], config=config, gguf_file=_FILE)


def _read_alike(job: Job, path: Path, *, has_llamacpp: bool) -> tuple[str, ...]:
    """Return a sentence on the tokenizer: that llama.cpp reads the real text as ours does, or that nobody looked.

    Raises:
        RecipeError: It does not.
    """
    if not has_llamacpp:
        return (
            "The weights were read back by transformers; llama.cpp, which is not installed, was not asked to read texts.",
        )
    tokenizer = job.original.tokenizer
    if tokenizer is None:
        raise AssertionError("a language model without a tokenizer was refused")
    texts = tokenizer.backend.decode_batch(job.original.inputs[0].tolist(), skip_special_tokens=True)
    for text in texts:
        ours = tokenizer.backend.encode(text, add_special_tokens=False).ids
        if tokenize(path, text) != ours:
            raise RecipeError(
                "llama.cpp does not read texts as the model's tokenizer does.",
                got=text[:40],
                hint="--format onnx",
            )
    return (f"llama.cpp reads {len(texts)} real texts as the model's tokenizer does, token by token.",)
