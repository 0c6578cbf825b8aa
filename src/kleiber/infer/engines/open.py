"""Opens a module behind an engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from kleiber.errors import UsageError, nearest
from kleiber.infer.engines.onnxruntime_predictor import OnnxRuntimePredictor
from kleiber.infer.engines.openvino_predictor import OpenVinoPredictor
from kleiber.infer.engines.torch_predictor import TorchPredictor
from kleiber.infer.lowering.export import export, to_bytes
from kleiber.infer.predictor import Predictor

__all__ = ["ENGINES", "EngineName", "open_predictor"]

EngineName = Literal["torch", "onnxruntime", "openvino"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)


def open_predictor(
    engine: EngineName,
    module: nn.Module,
    inputs: Sequence[Tensor],
    *,
    num_threads: int | None = None,
) -> Predictor:
    """Return `module` behind an engine.

    Args:
        engine: `torch`, `onnxruntime` or `openvino`.
        module: fp32, returns one tensor.
        inputs: An example of what it takes, in the order of its arguments.
        num_threads: None takes torch's number.

    Raises:
        UsageError: An unknown engine.
        MissingExtraError: The engine's package is not installed.
        RecipeError: The module cannot be exported.
    """
    if engine not in ENGINES:
        raise UsageError(f"unknown engine '{engine}'. {nearest(engine, ENGINES)}")
    threads = num_threads or torch.get_num_threads()
    if engine == "torch":
        return TorchPredictor(module, threads)
    model = to_bytes(export(module, inputs))
    opened = OnnxRuntimePredictor if engine == "onnxruntime" else OpenVinoPredictor
    return opened(model, precision="fp32", notes=(), num_threads=threads)
