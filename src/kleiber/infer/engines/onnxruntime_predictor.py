"""ONNX Runtime on the CPU."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from kleiber.infer.sessions import session_of

__all__ = ["OnnxRuntimePredictor"]


class OnnxRuntimePredictor:
    """A graph in ONNX Runtime.

    Args:
        model: Bytes of an `.onnx` file; inputs stand in the order of the module's arguments.
        precision: What it computes in.
        notes: What was lowered otherwise than asked.
        num_threads: Of each operation.
    """

    engine = "onnxruntime"

    def __init__(self, model: bytes, *, precision: str, notes: tuple[str, ...], num_threads: int) -> None:
        self.precision = precision
        self.notes = notes
        self._session = session_of(model, num_threads)
        self._names = [one.name for one in self._session.get_inputs()]

    def __call__(self, *inputs: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the module's output for inputs in the order of its arguments; any batch size."""
        output: npt.NDArray[Any] = self._session.run(None, dict(zip(self._names, inputs, strict=True)))[0]
        return output
