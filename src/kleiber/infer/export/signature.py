"""What a graph of ONNX takes and gives, by names that say what it is, of arrays and of sizes that are free."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from kleiber.runs.export_receipt import ExportedArray

__all__ = ["Axes", "Signature", "signature_of", "write_signature"]

Axes: TypeAlias = tuple[str | None, ...]
"""Names of the sizes of an input that are free; None of one that is not, or whose name does not matter."""

_SYMBOL = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True)
class Signature:
    """The arrays of a graph, in order."""

    inputs: tuple[ExportedArray, ...]
    outputs: tuple[ExportedArray, ...]


def signature_of(model: Any, inputs: Mapping[str, Axes], outputs: Sequence[str]) -> Signature:
    """Return the signature of a graph under names of ours.

    Args:
        model: An `onnx_ir.Model` as the exporter leaves it, which has symbols for sizes that are free.
        inputs: Names in order, each with those of its axes.
        outputs: Names in order.
    """
    taken = list(zip(model.graph.inputs, inputs.items(), strict=True))
    names = {symbol: name for value, (_, axes) in taken for symbol, name in _symbols(value, axes)}
    return Signature(
        tuple(_array(value, name, names) for value, (name, _) in taken),
        tuple(_array(value, name, names) for value, name in zip(model.graph.outputs, outputs, strict=True)),
    )


def write_signature(model: Any, signature: Signature) -> None:
    """Give the inputs and outputs of a graph the names, types and shapes of a signature."""
    import onnx_ir as ir  # noqa: PLC0415 - of an extra

    arrays = (*signature.inputs, *signature.outputs)
    for value, array in zip((*model.graph.inputs, *model.graph.outputs), arrays, strict=True):
        value.name = array.name
        value.type = ir.TensorType(ir.DataType.from_numpy(np.dtype(array.type)))
        value.shape = ir.Shape(array.shape)


def _symbols(value: Any, axes: Axes) -> Iterator[tuple[str, str]]:
    for size, name in zip(value.shape, axes, strict=True):
        if name is not None and not isinstance(size, int):
            yield str(size), name


def _array(value: Any, name: str, names: Mapping[str, str]) -> ExportedArray:
    return ExportedArray(
        name=name,
        type=str(value.dtype.numpy()),
        shape=tuple(
            size
            if isinstance(size, int)
            else _SYMBOL.sub(lambda found: names.get(found[0], found[0]), str(size))
            for size in value.shape
        ),
    )
