"""Opens a module behind an engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from kleiber.errors import RecipeError, UsageError, nearest
from kleiber.infer.compiled.predictor import CompiledPredictor
from kleiber.infer.engines.onnxruntime_predictor import OnnxRuntimePredictor
from kleiber.infer.engines.openvino_predictor import OpenVinoPredictor
from kleiber.infer.engines.torch_predictor import TorchPredictor
from kleiber.infer.lowering.export import export, to_bytes
from kleiber.infer.lowering.lower import lower
from kleiber.infer.predictor import Predictor
from kleiber.models.family import title_of
from kleiber.models.stored import AS_COMPUTED, Activations, Forms

__all__ = ["ENGINES", "EngineName", "open_predictor"]

EngineName = Literal["torch", "compiled", "onnxruntime", "openvino", "llamacpp"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)


def open_predictor(
    engine: EngineName,
    module: nn.Module,
    inputs: Sequence[Tensor],
    *,
    forms: Forms | None = None,
    activations: Activations = AS_COMPUTED,
    num_threads: int | None = None,
) -> Predictor:
    """Return `module` behind an engine.

    Args:
        engine: `torch` computes in fp32 with the weights that the forms stand for; `compiled` with the codes themselves;
            `onnxruntime` and `openvino` as `lower` says.
        module: fp32, returns one tensor; its weights are those that `forms` stand for.
        inputs: What it takes, in the order of its arguments; of int8 convolutions a batch of real samples.
        forms: How weights are stored, by the name of the parameter.
        activations: How the inputs of layers are held, and a decoder's keys and values.
        num_threads: None takes torch's number.

    Raises:
        UsageError: An unknown engine.
        MissingExtraError: The engine's package is not installed.
        RecipeError: The module cannot be exported, or returns several tensors.
    """
    if engine not in ENGINES:
        raise UsageError(f"unknown engine '{engine}'. {nearest(engine, ENGINES)}")
    threads = num_threads or torch.get_num_threads()
    if engine == "torch":
        return TorchPredictor(module, threads)
    if engine == "compiled":
        return CompiledPredictor(module, inputs, forms or {}, num_threads=threads)
    if engine == "llamacpp":
        raise UsageError("llamacpp runs nothing but language models.", hint="--engine openvino")
    model = export(module, inputs)
    if len(model.graph.outputs) != 1:
        raise RecipeError(
            f"the engine {engine} answers with one tensor; {title_of(module)} returns {len(model.graph.outputs)}.",
            hint="--engine torch",
        )
    lowered = lower(
        model,
        engine,
        forms=forms,
        activations=activations,
        samples=inputs,
    )
    opened = OnnxRuntimePredictor if engine == "onnxruntime" else OpenVinoPredictor
    return opened(
        to_bytes(lowered.model), precision=lowered.precision, notes=lowered.notes, num_threads=threads
    )
