"""OpenVINO on the CPU."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from kleiber.infer.sessions import compiled

__all__ = ["OpenVinoPredictor"]


class OpenVinoPredictor:
    """A graph in OpenVINO.

    Args:
        model: Bytes of an `.onnx` file; inputs stand in the order of the module's arguments.
        precision: What it computes in.
        notes: What was lowered otherwise than asked.
        num_threads: Of each operation.
    """

    engine = "openvino"

    def __init__(self, model: bytes, *, precision: str, notes: tuple[str, ...], num_threads: int) -> None:
        self.precision = precision
        self.notes = notes
        self._request = compiled(model, num_threads).create_infer_request()

    def __call__(self, *inputs: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the module's output for inputs in the order of its arguments; any batch size."""
        results = self._request.infer(list(inputs), share_inputs=True)
        # The request writes its next answer into the same memory.
        output: npt.NDArray[Any] = results[0].copy()
        return output
