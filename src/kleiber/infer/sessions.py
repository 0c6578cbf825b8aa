"""Graphs of ONNX in the libraries that run them, each with the same settings wherever it is opened."""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

from kleiber.errors import MissingExtraError

__all__ = ["compiled", "openvino_core", "require", "session_of"]

_ERRORS_ONLY = 3


def session_of(model: bytes, num_threads: int) -> Any:
    """Return an inference session on a model of ONNX; the same inputs give the same bits.

    Raises:
        MissingExtraError: onnxruntime is not installed.
    """
    require("onnxruntime", "onnx", "The engine onnxruntime")
    import onnxruntime  # noqa: PLC0415 - of an extra

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = _ERRORS_ONLY
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def compiled(model: bytes, num_threads: int) -> Any:
    """Return an `openvino.CompiledModel` of a model of ONNX.

    Raises:
        MissingExtraError: openvino is not installed.
    """
    core = openvino_core()
    settings = {
        "INFERENCE_NUM_THREADS": num_threads,
        "NUM_STREAMS": 1,
        # Without it OpenVINO computes in bf16 where the CPU can, and no figure would say so.
        "INFERENCE_PRECISION_HINT": "f32",
    }
    return core.compile_model(core.read_model(model), "CPU", settings)


@functools.cache
def openvino_core() -> Any:
    """Return the `openvino.Core` of this process.

    There is one, and it stays. A core's CPU plugin gives the thread a stack for signal handlers and takes it back when
    the core is gone; of two cores gone in the order in which they came, the second gives the thread the first one's
    stack again, which is no longer mapped, and the next Ctrl-C writes into whatever stands there by then.

    Raises:
        MissingExtraError: openvino is not installed.
    """
    require("openvino", "openvino", "The engine openvino")
    import openvino  # noqa: PLC0415 - of an extra

    return openvino.Core()


def require(package: str, extra: str, purpose: str) -> None:
    """Refuse to go on without a package.

    Raises:
        MissingExtraError: It is not installed.
    """
    if importlib.util.find_spec(package) is None:
        raise MissingExtraError.of(package, extra, purpose)
