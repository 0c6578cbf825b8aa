"""Models written as the files that their engines open: for this process and for fresh ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from kleiber.infer.decoding import Decoder, StepModel, open_decoder, step_model
from kleiber.infer.decoding.cached_forward import Heads
from kleiber.infer.engines import EngineName, open_predictor
from kleiber.infer.engines.onnxruntime_predictor import OnnxRuntimePredictor
from kleiber.infer.engines.openvino_predictor import OpenVinoPredictor
from kleiber.infer.lowering import export, lower, to_bytes
from kleiber.infer.measure.opening import Opening
from kleiber.infer.measure.work import DecodeWork, ForwardWork
from kleiber.infer.predictor import Predictor
from kleiber.models import Spec, load, save
from kleiber.models.family import FamilyModule
from kleiber.models.file.named import name_module
from kleiber.models.file.spec import FileSpec
from kleiber.models.stored import AS_COMPUTED, Activations, Forms, read_forms, write_forms

__all__ = ["open_decode", "open_forward", "staged_decode", "staged_forward"]

Arrays = Sequence[npt.NDArray[Any]]

_OF_MODULES = ("torch", "compiled")
"""Engines that run modules; the others run graphs."""
_INPUTS = "inputs.npz"
_MODEL = "model.onnx"


def staged_forward(
    engine: EngineName,
    folder: Path,
    module: FamilyModule,
    spec: Spec,
    inputs: Arrays,
    *,
    num_threads: int,
    forms: Forms | None = None,
    activations: Activations = AS_COMPUTED,
) -> Opening:
    """Write a model for an engine; return how whole inputs are run through it.

    Args:
        engine: Any but llamacpp.
        folder: Is made; of this model and engine alone.
        module: fp32; its weights are those that `forms` stand for.
        spec: Of the module.
        inputs: Real samples, in the order of the module's arguments.
        num_threads: Of the engine.
        forms: How weights are stored, by the name of the parameter.
        activations: How the inputs of layers are held.

    Raises:
        MissingExtraError: The engine's packages are not installed.
        RecipeError: The module cannot be exported.
        StorageError: The disk refused.
    """
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / _INPUTS, *inputs)
    said: dict[str, Any] = {"precision": "fp32", "notes": []}
    if engine in _OF_MODULES:
        save(module, spec, folder)
        if engine == "compiled":
            write_forms(folder, module, forms or {})
        if isinstance(
            spec, FileSpec
        ):  # whose code a fresh process runs for this one, which the user told of it
            said["code"] = (spec.path, spec.name)
    elif engine not in ("onnxruntime", "openvino"):
        raise AssertionError(f"{engine} runs nothing but language models")
    else:
        samples = tuple(map(torch.from_numpy, inputs))
        lowered = lower(
            export(module, samples),
            engine,
            forms=forms,
            activations=activations,
            samples=samples,
        )
        (folder / _MODEL).write_bytes(to_bytes(lowered.model))
        said = {"precision": lowered.precision, "notes": list(lowered.notes)}
    return _opening("open_forward", engine, folder, num_threads, said)


def open_forward(
    engine: EngineName,
    folder: str,
    *,
    num_threads: int,
    precision: str,
    notes: Sequence[str],
    code: Sequence[str] | None = None,
) -> ForwardWork:
    """Return what `staged_forward` wrote, ready to be timed."""
    if code is not None:
        name_module(*code)
    inputs = _read(Path(folder))
    predictor = _predictor(
        engine, Path(folder), inputs, num_threads=num_threads, precision=precision, notes=notes
    )
    return ForwardWork(predictor, inputs)


def staged_decode(
    engine: EngineName,
    folder: Path,
    module: FamilyModule,
    spec: Spec,
    tokens_BT: npt.NDArray[np.int64],
    *,
    num_threads: int,
    forms: Forms | None = None,
    activations: Activations = AS_COMPUTED,
) -> Opening:
    """Write a language model for an engine; return how it reads token by token.

    Args:
        engine: Any but llamacpp.
        folder: Is made; of this model and engine alone.
        module: fp32, of the family gpt or hf; its weights are those that `forms` stand for.
        spec: Of the module.
        tokens_BT: Real text, `context` tokens of each sequence.
        num_threads: Of the engine.
        forms: How weights are stored, by the name of the parameter.
        activations: How the inputs of layers are held, and a decoder's keys and values.

    Raises:
        UsageError: The module does not go on from text, or bits that no cache has.
        MissingExtraError: The engine's packages are not installed.
        RecipeError: The module cannot be exported.
        StorageError: The disk refused.
    """
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / _INPUTS, tokens_BT)
    cache_bits = activations.cache_bits
    if engine in _OF_MODULES:
        save(module, spec, folder)
        if engine == "compiled":
            write_forms(folder, module, forms or {})
        return _opening("open_decode", engine, folder, num_threads, {"step": None, "cache_bits": cache_bits})
    step = step_model(engine, module, forms=forms, activations=activations)
    (folder / _MODEL).write_bytes(step.model)
    said = {"heads": asdict(step.heads), "precision": step.precision, "notes": list(step.notes)}
    return _opening("open_decode", engine, folder, num_threads, {"step": said, "cache_bits": cache_bits})


def open_decode(
    engine: EngineName, folder: str, num_threads: int, step: Mapping[str, Any] | None, cache_bits: int | None
) -> DecodeWork:
    """Return what `staged_decode` wrote, ready to be timed."""
    path = Path(folder)
    decoder: Decoder
    if step is None:
        module, _ = load(path)
        held, forms = Activations(cache_bits=cache_bits), read_forms(path, module)
        decoder = open_decoder(engine, module.eval(), forms=forms, activations=held, num_threads=num_threads)
    else:
        model = StepModel(
            engine=engine,
            model=(path / _MODEL).read_bytes(),
            heads=Heads(**step["heads"]),
            precision=step["precision"],
            notes=tuple(step["notes"]),
            cache_bits=cache_bits,
        )
        decoder = model.open(num_threads)
    return DecodeWork(decoder, _read(path)[0])


def _opening(
    function: str, engine: EngineName, folder: Path, num_threads: int, said: Mapping[str, Any]
) -> Opening:
    return Opening(
        function=f"{__name__}:{function}",
        arguments={"engine": engine, "folder": str(folder), "num_threads": num_threads, **said},
        packages=(engine,),
    )


def _predictor(
    engine: EngineName,
    folder: Path,
    inputs: Arrays,
    *,
    num_threads: int,
    precision: str,
    notes: Sequence[str],
) -> Predictor:
    if engine in _OF_MODULES:
        module, _ = load(folder)
        samples, forms = tuple(map(torch.from_numpy, inputs)), read_forms(folder, module)
        return open_predictor(engine, module.eval(), samples, forms=forms, num_threads=num_threads)
    opened = OnnxRuntimePredictor if engine == "onnxruntime" else OpenVinoPredictor
    model = (folder / _MODEL).read_bytes()
    return opened(model, precision=precision, notes=tuple(notes), num_threads=num_threads)


def _read(folder: Path) -> tuple[npt.NDArray[Any], ...]:
    with np.load(folder / _INPUTS, allow_pickle=False) as arrays:
        return tuple(arrays[name] for name in arrays.files)
