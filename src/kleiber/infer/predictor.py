"""What every engine offers that answers whole inputs at once."""

from __future__ import annotations

from typing import Any, Protocol

import numpy.typing as npt

__all__ = ["InEngine", "Predictor"]


class InEngine(Protocol):
    """What every model behind an engine says of itself."""

    @property
    def engine(self) -> str:
        """`torch`, `onnxruntime`, `openvino`."""
        ...

    @property
    def precision(self) -> str:
        """What it computes in, such as `fp32`, `int8`, `int4 weights`."""
        ...


class Predictor(InEngine, Protocol):
    """A model behind an engine: arrays in, what the module would return out."""

    def __call__(self, *inputs: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the module's output for inputs in the order of its arguments; any batch size."""
        ...
