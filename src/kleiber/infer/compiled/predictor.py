"""Whole inputs through a forward pass that torch compiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from kleiber.errors import RecipeError
from kleiber.infer.compiled.products import Hollow, multiplied
from kleiber.infer.compiled.program import compiled_program, program_key
from kleiber.infer.threads import threads
from kleiber.models.family import FamilyModule, title_of
from kleiber.models.file.spec import FileSpec
from kleiber.models.stored import Forms

__all__ = ["CompiledPredictor"]


class CompiledPredictor:
    """A module as native code, for batches and texts of any length; weights in codes are multiplied as such.

    Args:
        module: fp32, in evaluation mode; returns one tensor.
        inputs: What it takes, in the order of its arguments.
        forms: How weights are stored.
        num_threads: Of the code.

    Raises:
        RecipeError: It is no module of a family, there is no C++ compiler, or torch does not compile it.
    """

    engine = "compiled"
    notes: tuple[str, ...] = ()

    def __init__(
        self, module: nn.Module, inputs: Sequence[Tensor], forms: Forms, *, num_threads: int
    ) -> None:
        if not isinstance(module, FamilyModule) or isinstance(module.spec, FileSpec):
            raise RecipeError(
                f"the engine compiled knows programs by the spec of their model; {title_of(module)} has none.",
                hint="--engine torch",
            )
        examples = tuple(map(_example, inputs))
        hollow = Hollow(module.eval(), forms, multiplied(module, lambda: module(*examples)))
        self.precision = hollow.precision
        self._num_threads = num_threads
        free: Any = torch.export.Dim.DYNAMIC
        axes = tuple(
            {0: free} if one.is_floating_point() or one.ndim == 1 else {0: free, 1: free} for one in examples
        )
        self._program = compiled_program(
            _Whole(hollow),
            examples,
            (axes,),
            {
                **program_key("whole inputs", module, hollow),
                "inputs": [list(one.shape[2:]) for one in examples],
            },
            num_threads=num_threads,
        )

    def __call__(self, *inputs: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the module's output for inputs in the order of its arguments; any batch size."""
        with torch.inference_mode(), threads(self._num_threads):
            # Strides are part of a program.
            whole = (torch.from_numpy(np.ascontiguousarray(one)) for one in inputs)
            output: npt.NDArray[Any] = self._program(*whole).numpy()
        return output


class _Whole(nn.Module):
    def __init__(self, hollow: Hollow) -> None:
        super().__init__()
        self.hollow = hollow

    def forward(self, *inputs: Tensor) -> Tensor:
        with self.hollow.using(rows="many") as module:
            output: Tensor = module(*inputs)
        return output


def _example(tensor: Tensor) -> Tensor:
    # A batch or a length of one would be taken for a constant.
    return tensor.repeat(2, *[1] * (tensor.ndim - 1)) if len(tensor) == 1 else tensor
