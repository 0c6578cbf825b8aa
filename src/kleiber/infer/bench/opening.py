"""How a model is opened for a benchmark: here, and in a fresh process by what is written down of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from kleiber.errors import RecipeError
from kleiber.infer.engines import open_predictor
from kleiber.infer.fastest_predictor import fastest_predictor
from kleiber.infer.measure import Opening, SampleCalls, TextCalls
from kleiber.infer.precision import Precision, in_precision
from kleiber.infer.text_model import AskedEngine, open_text_model
from kleiber.models import Spec, load
from kleiber.models.family import FamilyModule
from kleiber.models.file.named import name_module
from kleiber.models.seen_data import seen_by
from kleiber.models.stored import read_activations, read_forms
from kleiber.runs import DataShape

__all__ = ["has_towers", "open_samples", "open_text", "opening_of"]

_PACKAGES: dict[str, tuple[str, ...]] = {
    "torch": ("torch",),
    "compiled": ("torch._dynamo",),
    "onnxruntime": ("torch", "onnxruntime", "onnxscript"),
    "openvino": ("torch", "openvino", "onnxscript"),
    "llamacpp": ("llama_cpp",),
}
"""What the engine itself is: imported before load time and memory are counted."""


def opening_of(
    folder: Path,
    engine: str,
    precision: Precision | None,
    inputs_path: Path,
    *,
    num_threads: int,
    num_new: int | None = None,
    shape: DataShape | None = None,
    code: tuple[str, str] | None = None,
) -> Opening:
    """Return how a model is opened behind an engine.

    Args:
        folder: Of a run or a model.
        engine: Its name.
        precision: None is as stored.
        inputs_path: An `.npz` with the prompts of a language model [B, T], or with samples in the order of the module's arguments.
        num_threads: Of the engine.
        num_new: Tokens that follow a prompt; None is no language model.
        shape: Of the data that a model of no family of ours reads.
        code: Path and class of a module in a file, which the user has named.
    """
    arguments: dict[str, Any] = {
        "folder": str(folder),
        "engine": engine,
        "precision": precision,
        "inputs_path": str(inputs_path),
        "num_threads": num_threads,
    }
    if num_new is None:
        arguments |= {"shape": None if shape is None else shape.model_dump(mode="json"), "code": code}
        name = "open_samples"
    else:
        arguments["num_new"] = num_new
        name = "open_text"
    return Opening(
        function=f"{__name__}:{name}", arguments=arguments, packages=_PACKAGES.get(engine, ("torch",))
    )


def open_text(
    folder: str,
    engine: AskedEngine,
    precision: Precision | None,
    inputs_path: str,
    *,
    num_threads: int,
    num_new: int,
) -> TextCalls:
    """Return a language model behind an engine, ready to be timed.

    Raises:
        UsageError: The engine does not run the model so.
        MissingExtraError: The engine's package is not installed.
    """
    model = open_text_model(Path(folder), engine=engine, precision=precision, num_threads=num_threads)
    with np.load(inputs_path, allow_pickle=False) as arrays:
        return TextCalls(model.decoder, arrays["arr_0"], num_new)


def open_samples(
    folder: str,
    engine: AskedEngine,
    precision: Precision | None,
    inputs_path: str,
    *,
    num_threads: int,
    shape: dict[str, Any] | None = None,
    code: Sequence[str] | None = None,
) -> SampleCalls:
    """Return a model that answers whole samples behind an engine, ready to be timed.

    Raises:
        UsageError: The engine does not run the model so.
        RecipeError: The model answers with several tensors, and the engine with one.
        MissingExtraError: The engine's package is not installed.
    """
    if code is not None:
        name_module(*code)
    path = Path(folder)
    module, spec = load(path, None if shape is None else DataShape.model_validate(shape))
    forms = in_precision(module, read_forms(path, module), precision)
    with np.load(inputs_path, allow_pickle=False) as arrays:
        inputs = [arrays[name] for name in arrays.files]
    if has_towers(spec):
        return _matched(module, inputs, engine, num_threads)
    samples = list(map(torch.from_numpy, inputs))
    given: dict[str, Any] = {
        "forms": forms,
        "activations": read_activations(path),
        "num_threads": num_threads,
    }
    if engine == "auto":
        predictor, _ = fastest_predictor(module.eval(), samples, **given)
    else:
        predictor = open_predictor(engine, module.eval(), samples, **given)
    return SampleCalls(predictor, inputs)


def has_towers(spec: Spec) -> bool:
    """Return whether a model tells how well images and texts go together, by an embedding of each."""
    return seen_by(spec).inputs == "captions"


def _matched(
    module: FamilyModule, inputs: Sequence[npt.NDArray[Any]], engine: AskedEngine, num_threads: int
) -> SampleCalls:
    """Return two towers in torch, up to how well each image goes with each text."""
    if engine not in ("torch", "auto"):
        raise RecipeError(
            f"the engine {engine} answers with one tensor; two towers return three.", hint="--engine torch"
        )
    return SampleCalls(open_predictor("torch", _Matched(module.eval()), [], num_threads=num_threads), inputs)


class _Matched(nn.Module):
    """Images and texts in, the scaled products of their embeddings out."""

    def __init__(self, module: FamilyModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, images_BCHW: Tensor, tokens_BT: Tensor) -> Tensor:
        images_BE, texts_BE, scale = self.module(images_BCHW, tokens_BT)
        matched_BB: Tensor = scale * images_BE @ texts_BE.T
        return matched_BB
