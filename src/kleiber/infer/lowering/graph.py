"""A graph of ONNX that is changed place by place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy.typing as npt

__all__ = ["Builder", "Kind", "Place", "places_of"]

Kind: TypeAlias = Literal["linear", "conv", "embedding"]
Value: TypeAlias = Any
"""An `onnx_ir.Value`: its package has no types for what is imported inside functions."""


@dataclass(frozen=True)
class Place:
    """Where a weight is used."""

    kind: Kind
    node: Any
    """The product, convolution or look-up: an `onnx_ir.Node`."""
    input: Value
    bias: Value | None

    @property
    def output(self) -> Value:
        """What it gives."""
        return self.node.outputs[0]


def places_of(graph: Any, name: str) -> list[Place]:
    """Return where a weight is multiplied by or looked up in; other uses of it keep it as it is.

    Args:
        graph: An `onnx_ir.Graph` as `export` returns it.
        name: Of the parameter.
    """
    weight = graph.initializers.get(name)
    found: list[Place] = []
    for use in () if weight is None else weight.uses():
        node, index = use.node, use.idx
        attributes = {key: one.value for key, one in node.attributes.items()}
        if node.op_type == "Gather" and index == 0 and attributes.get("axis", 0) == 0:
            found.append(Place("embedding", node, node.inputs[1], None))
        elif node.op_type == "Conv" and index == 1 and attributes.get("group", 1) == 1:
            found.append(Place("conv", node, node.inputs[0], _third(node)))
        elif node.op_type == "Gemm" and index == 1 and _is_linear(attributes):
            found.append(Place("linear", node, node.inputs[0], _third(node)))
        elif node.op_type == "Transpose":
            products = [(one.node, one.idx) for one in node.outputs[0].uses()]
            found += [
                Place("linear", product, product.inputs[0], None)
                for product, side in products
                if product.op_type == "MatMul" and side == 1
            ]
    return found


def _third(node: Any) -> Value | None:
    return node.inputs[2] if len(node.inputs) > 2 else None


def _is_linear(attributes: Mapping[str, Any]) -> bool:
    usual = {"transA": 0, "transB": 0, "alpha": 1.0, "beta": 1.0}
    return usual | dict(attributes) == usual | {"transB": 1}


class Builder:
    """Puts nodes before a node of a graph.

    Args:
        graph: An `onnx_ir.Graph`.
        before: The node that they stand before.
    """

    def __init__(self, graph: Any, before: Any) -> None:
        self._graph = graph
        self._before = before

    def constant(self, name: str, array: npt.NDArray[Any]) -> Value:
        """Return an initializer that holds `array`; the same name gives the first one again."""
        import onnx_ir as ir  # noqa: PLC0415 - of an extra

        if name not in self._graph.initializers:
            tensor = ir.tensor(array, name=name)
            value = ir.Value(
                name=name,
                const_value=tensor,
                type=ir.TensorType(tensor.dtype),
                shape=ir.Shape(array.shape),
            )
            self._graph.register_initializer(value)
        return self._graph.initializers[name]

    def op(
        self,
        name: str,
        inputs: Sequence[Value | None],
        attributes: Mapping[str, Any] | None = None,
        *,
        domain: str = "",
        num_outputs: int = 1,
    ) -> tuple[Value, ...]:
        """Return what a new node gives."""
        import onnx_ir as ir  # noqa: PLC0415 - of an extra

        node = ir.node(name, inputs, dict(attributes or {}), domain=domain, num_outputs=num_outputs)
        self._graph.insert_before(self._before, node)
        return tuple(node.outputs)

    def one(
        self,
        name: str,
        inputs: Sequence[Value | None],
        attributes: Mapping[str, Any] | None = None,
        *,
        domain: str = "",
    ) -> Value:
        """Return what a new node of one output gives."""
        return self.op(name, inputs, attributes, domain=domain)[0]
