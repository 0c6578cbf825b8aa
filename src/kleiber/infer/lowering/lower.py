"""Weights in few bits or two factors, as an engine runs them fast: a graph is changed where they are used.

Legend: R rows, C columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from kleiber.infer.lowering.convolutions import end_of, int8_convolution, settle_outputs, thin_convolution
from kleiber.infer.lowering.embeddings import looked_up
from kleiber.infer.lowering.graph import Builder, Place, places_of
from kleiber.infer.lowering.observed import observed_ranges
from kleiber.infer.lowering.products import (
    Product,
    Range,
    dense,
    dynamic_int8,
    static_int8,
    weights_only,
)
from kleiber.models.stored import AS_COMPUTED, Activations, Form, Forms, LowRank, Masked, Quantized

__all__ = ["Lowered", "Target", "lower"]

Target = Literal["onnxruntime", "openvino"]
_READS_WEIGHTS = frozenset({"Transpose", "Gather", "Gemm", "MatMul", "Conv"})
_FOLDED_BYTES = 8192
"""Of a constant: shapes and the like; engines fold weights themselves."""
_NAMED = 3
"""Weights of one reason that a note names; the others are counted."""


@dataclass(frozen=True)
class Lowered:
    """A graph for an engine."""

    model: Any
    """An `onnx_ir.Model`."""
    precision: str
    """What its products compute in, the most frequent first."""
    notes: tuple[str, ...]
    """What was lowered otherwise than stored, a sentence each."""


def lower(
    model: Any,
    target: Target,
    *,
    forms: Forms | None = None,
    activations: Activations = AS_COMPUTED,
    samples: Sequence[Tensor] = (),
) -> Lowered:
    """Return the graph with weights stored and multiplied as `forms` and ranges say, as far as the engine is fast so.

    Static int8 (a range): QuantizeLinear and DequantizeLinear around the product or convolution. Dynamic int8: of products,
    int8 by the range of each batch. Else weights in 4 or 8 bits, the next of those that were asked; tables are looked up in 8.
    What an engine has no fast operation for stays fp32 and is said in `notes`.

    Args:
        model: As `export` returned it; it is changed.
        target: The engine.
        forms: By the name of the parameter, whose values in the model are those that the form stands for.
        activations: How the inputs of layers are held: on a fixed grid where they have a range, else by the batch where asked.
        samples: Inputs to the model, as it is trained on. On these ONNX Runtime's int8 convolutions are given the range of
            what they give, which no other layer's inputs say.
    """
    _fold_shapes(model)
    lowering = _Lowering(model.graph, target, activations.input_ranges, activations.has_dynamic_inputs)
    ends = lowering.convolution_ends(forms or {}) if target == "onnxruntime" and samples else {}
    seen = observed_ranges(model, ends, samples) if ends else {}
    for name, form in (forms or {}).items():
        lowering.weight(name, form)
    for name, value in lowering.int8_ends:
        if name in seen:
            settle_outputs(value, name, seen[name])
    _simplify(model)
    return Lowered(model, lowering.precision(), lowering.notes())


@dataclass
class _Lowering:
    graph: Any
    target: Target
    ranges: Mapping[str, Range]
    has_dynamic_inputs: bool
    computed_in: list[str] = field(default_factory=list)
    kept: dict[str, list[str]] = field(default_factory=dict)
    int8_ends: list[tuple[str, Any]] = field(default_factory=list)

    def convolution_ends(self, forms: Forms) -> dict[str, Any]:
        """Return what each convolution gives that is to be int8, by its place."""
        return {
            _place_name(name, index): end_of(place)[2]
            for name in forms
            if name in self.ranges
            for index, place in enumerate(places_of(self.graph, name))
            if place.kind == "conv"
        }

    def weight(self, name: str, form: Form) -> None:
        """Change the places of one weight."""
        if isinstance(form, Masked):
            self._keep("the engine multiplies by zeros as by any number", name)
            return
        shape = tuple(self.graph.initializers[name].shape.numpy()) if name in self.graph.initializers else ()
        places = places_of(self.graph, name)
        if not places:
            self._keep("the graph does not multiply by them or look them up", name)
        for index, place in enumerate(places):
            if place.kind == "conv":
                self._convolution(place, _place_name(name, index), name, form, shape)
            else:
                self._product(place, name, form)

    def _product(self, place: Place, name: str, form: Quantized | LowRank) -> None:
        if place.kind == "embedding":
            product, computed_in = (
                looked_up(name, form),
                "int8 embeddings" if isinstance(form, Quantized) else "fp32",
            )
        else:
            product, computed_in = self._linear(name, form, self.ranges.get(name))
        if product is None:
            self._keep(f"{self.target} has no fast products for their groups of columns", name)
            return
        builder = Builder(self.graph, place.node)
        y = product(builder, place.input)
        if place.bias is not None:
            y = builder.one("Add", [y, place.bias])
        name_of_output = place.output.name
        place.output.replace_all_uses_with(y, replace_graph_outputs=True)
        if y.is_graph_output():  # which is asked for by its name
            place.output.name, y.name = None, name_of_output
        self.computed_in.append(computed_in)

    def _linear(
        self, name: str, form: Quantized | LowRank | Tensor, limits: Range | None
    ) -> tuple[Product | None, str]:
        if isinstance(form, Tensor):
            return dense(name, form.numpy()), "fp32"
        if isinstance(form, LowRank):
            return self._factors(name, form, limits)
        if limits is not None and (product := static_int8(name, form, limits)) is not None:
            return product, "int8"
        if self.has_dynamic_inputs and (product := dynamic_int8(self.target, name, form)) is not None:
            return product, "dynamic int8"
        num_bits = 4 if form.num_bits <= 4 else 8
        return weights_only(self.target, name, form), f"int{num_bits} weights"

    def _factors(self, name: str, form: LowRank, limits: Range | None) -> tuple[Product | None, str]:
        first, computed_in = self._linear(f"{name}/right", form.right_KC, limits)
        second, _ = self._linear(f"{name}/left", form.left_RK, None)
        if first is None or second is None:
            return None, computed_in
        return lambda builder, x: second(builder, first(builder, x)), computed_in

    def _convolution(
        self, place: Place, place_name: str, name: str, form: Quantized | LowRank, shape: tuple[int, ...]
    ) -> None:
        if isinstance(form, LowRank):
            thin_convolution(place, name, form, shape)
            self.computed_in.append("fp32")
            return
        limits = self.ranges.get(name)
        y = None if limits is None else int8_convolution(place, name, form, shape, limits)
        if y is None:
            self._keep(f"{self.target} has fast int8 convolutions only of inputs with a fixed range", name)
            return
        self.int8_ends.append((place_name, y))
        self.computed_in.append("int8")

    def _keep(self, reason: str, name: str) -> None:
        names = self.kept.setdefault(reason, [])
        if name not in names:
            names.append(name)

    def precision(self) -> str:
        """Return what products compute in."""
        kinds = sorted(set(self.computed_in), key=self.computed_in.count, reverse=True)
        return ", ".join(kind for kind in kinds if kind != "fp32") or "fp32"

    def notes(self) -> tuple[str, ...]:
        """Return a sentence for each reason why weights are computed in fp32."""
        return tuple(
            f"Computed in fp32, because {reason}: {_listed(names)}." for reason, names in self.kept.items()
        )


def _place_name(name: str, index: int) -> str:
    return f"{name}/{index}"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _fold_shapes(model: Any) -> None:
    """Fold what is constant and small but weights: a convolution without a bias is exported with computed zeros."""
    from onnxscript import optimizer  # noqa: PLC0415 - of an extra

    optimizer.fold_constants(
        model,
        onnx_shape_inference=False,
        input_size_limit=_FOLDED_BYTES,
        output_size_limit=_FOLDED_BYTES,
        should_fold=lambda node: False if node.op_type in _READS_WEIGHTS else None,
    )


def _simplify(model: Any) -> None:
    """Fold what is constant and small, and drop what nothing reads."""
    from onnxscript import optimizer  # noqa: PLC0415 - of an extra

    model.opset_imports.setdefault("com.microsoft", 1)
    optimizer.optimize(model, input_size_limit=_FOLDED_BYTES, output_size_limit=_FOLDED_BYTES)
