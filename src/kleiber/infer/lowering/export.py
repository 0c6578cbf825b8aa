"""From a module to an ONNX graph whose weights keep the names that the module has for them."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from kleiber.errors import RecipeError
from kleiber.infer.sessions import require
from kleiber.models.family import title_of
from kleiber.models.foreign.failures import is_data_dependent, line_of
from kleiber.tasks.evaluation import evaluating

__all__ = ["OPSET", "Axes", "export", "to_bytes"]

OPSET = 23
"""The first with attention and root-mean-square norms as operations of their own."""
_MAX_BYTES = 2**31 - 1
"""Of one protobuf message."""

Axes: TypeAlias = Sequence[Mapping[int, Any]]
"""Of each input, the axes of any length, as `torch.export` is told them."""


def export(module: nn.Module, inputs: Sequence[Tensor], axes: Axes | None = None) -> Any:
    """Return `module` in evaluation mode as an `onnx_ir.Model`, its weights fp32 under the names of the parameters.

    Nothing is folded or merged: whoever stores weights in another way finds each where it is used.

    Args:
        module: fp32; takes tensors in the order of its arguments and returns one or several.
        inputs: An example of each; what it holds does not matter, and a batch of one will do.
        axes: None makes the batch free, and the length of token numbers [B, T].

    Raises:
        MissingExtraError: onnx or onnxscript is not installed.
        RecipeError: The forward pass depends on its data, or holds an operation that ONNX has none for.
    """
    require("onnxscript", "onnx", "A model for ONNX Runtime or OpenVINO")
    examples = tuple(_example(one) for one in inputs)
    shapes = _axes_of(examples) if axes is None else axes
    try:
        with evaluating(module), _quiet():
            program = torch.onnx.export(
                module,
                examples,
                dynamo=True,
                optimize=False,
                opset_version=OPSET,
                dynamic_shapes=_in_arguments(module, shapes),
                verbose=False,
            )
    except Exception as error:  # noqa: BLE001 - whatever a tracer stumbles over in somebody's module
        raise RecipeError(
            f"{title_of(module)} cannot be exported for other engines: {_cause(error)}.",
            hint="--engine torch   runs any module",
        ) from None
    if program is None:
        raise AssertionError("the exporter of torch 2.5 and later returns a program")
    model = program.model
    _name_weights(model.graph, module)
    _spread_masks(model.graph)
    return model


def to_bytes(model: Any) -> bytes:
    """Return a model as the bytes of an `.onnx` file.

    Raises:
        RecipeError: It is larger than such a file can be.
    """
    import onnx_ir  # noqa: PLC0415 - of an extra

    num_bytes = sum(one.const_value.nbytes for one in model.graph.initializers.values())
    if num_bytes > _MAX_BYTES:
        raise RecipeError("a model for other engines must be smaller than 2 GiB.", got=num_bytes)
    written: bytes = onnx_ir.to_proto(model).SerializeToString()
    return written


def _example(tensor: Tensor) -> Tensor:
    # A batch or a length of one would be taken for a constant.
    if tensor.shape[0] == 1:
        tensor = torch.cat((tensor, tensor))
    if not tensor.is_floating_point() and tensor.ndim > 1 and tensor.shape[1] == 1:
        tensor = torch.cat((tensor, tensor), 1)
    return tensor


def _axes_of(inputs: Sequence[Tensor]) -> list[dict[int, Any]]:
    free = torch.export.Dim.DYNAMIC
    return [{0: free} if one.is_floating_point() or one.ndim == 1 else {0: free, 1: free} for one in inputs]


def _in_arguments(module: nn.Module, axes: Axes) -> tuple[Any, ...]:
    """Return the axes by the arguments of `forward`: inputs of any number are one argument, those left out have none."""
    import inspect  # noqa: PLC0415 - asked once a model

    kinds = [argument.kind for argument in inspect.signature(module.forward).parameters.values()]
    each = tuple(dict(one) for one in axes)
    return (each,) if kinds and kinds[0] is inspect.Parameter.VAR_POSITIONAL else each


def _name_weights(graph: Any, module: nn.Module) -> None:
    """Give each parameter one initializer by its first name; what is computed gets names that no parameter has."""
    names = {value.name for value in graph.initializers.values()} | {value.name for value in graph.inputs}
    for node in graph:
        for output in node.outputs:
            if output.name in names:
                output.name = f"{output.name}/computed"
    first_of: dict[int, str] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        first = first_of.setdefault(id(parameter), name)
        value = graph.initializers.get(name)
        if value is None or first == name:
            continue
        if first in graph.initializers:
            value.replace_all_uses_with(graph.initializers[first])
            del graph.initializers[name]
        else:
            value.name = first


def _spread_masks(graph: Any) -> None:
    """Repeat attention masks that are the same for every query: ONNX Runtime reads those with a row a query only."""
    import onnx_ir as ir  # noqa: PLC0415 - of an extra

    for node in [node for node in graph if node.op_type == "Attention"]:
        query, mask = node.inputs[0], node.inputs[3] if len(node.inputs) > 3 else None
        if mask is None:
            continue
        ones = ir.node("Constant", [], {"value_ints": [1, 1]})
        one = ir.node("Constant", [], {"value_ints": [1]})
        rows = ir.node("Shape", [query], {"start": 2, "end": 3})
        shape = ir.node("Concat", [ones.outputs[0], rows.outputs[0], one.outputs[0]], {"axis": 0})
        spread = ir.node("Expand", [mask, shape.outputs[0]])
        graph.insert_before(node, [ones, one, rows, shape, spread])
        node.replace_input_with(3, spread.outputs[0])


def _cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        if is_data_dependent(error):
            break
        error = error.__cause__
    if is_data_dependent(error):
        return f"forward depends on the values in its tensors{line_of(error)}, and a graph is the same for all values"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep from a user what torch says of packages that it looks for, of its own deprecations, and of graphs that it gave up."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
