from __future__ import annotations

import pytest
import torch
from lowering_examples import ENGINES, Exported, Images, answers, miss, operations, rounded, thin
from torch import nn

from kleiber.models.stored import Activations

CONVOLUTIONS = ("stem.weight", "inner.weight", "outer.weight")
LAYERS = (*CONVOLUTIONS, "head.weight")
SAMPLE = torch.randn(8, 3, 10, 10, generator=torch.Generator().manual_seed(2))

every_engine = pytest.mark.parametrize("engine", ENGINES)


@pytest.fixture(scope="module")
def images() -> Exported:
    return Exported(Images(), SAMPLE)


def ranges(module: nn.Module) -> dict[str, tuple[float, float]]:
    found: dict[str, tuple[float, float]] = {}
    handles = [
        part.register_forward_pre_hook(
            lambda _, args, name=name: found.__setitem__(
                f"{name}.weight", (float(args[0].min()), float(args[0].max()))
            )
        )
        for name, part in module.named_children()
        if f"{name}.weight" in LAYERS
    ]
    with torch.no_grad():
        module(SAMPLE)
    for handle in handles:
        handle.remove()
    return found


@every_engine
def test_int8_convolutions_take_their_norm_along(images: Exported, engine: str) -> None:
    forms = images.weights(rounded, LAYERS)
    lowered = images.lowered(engine, forms, activations=Activations(input_ranges=ranges(images.module)))
    assert (lowered.precision, lowered.notes) == ("int8", ())
    assert "BatchNormalization" not in operations(lowered)
    assert miss(answers(lowered, engine, SAMPLE), images.expected()) < 0.06
    assert miss(answers(lowered, engine, SAMPLE[:1]), images.expected(SAMPLE[:1])) < 0.06


def test_what_onnxruntime_convolves_in_int8_is_int8_at_both_ends(images: Exported) -> None:
    forms = images.weights(rounded, LAYERS)
    graph = images.lowered(
        "onnxruntime", forms, activations=Activations(input_ranges=ranges(images.module))
    ).model.graph
    convolutions = [node for node in graph if node.op_type == "Conv"]
    assert len(convolutions) == 3
    for node in convolutions:
        assert {one.producer().op_type for one in node.inputs} == {"DequantizeLinear"}
        readers = [use.node for use in node.outputs[0].uses()]
        after = [use.node for one in readers if one.op_type == "Relu" for use in one.outputs[0].uses()]
        assert {one.op_type for one in (after or readers)} == {"QuantizeLinear"}


@every_engine
def test_convolutions_of_inputs_without_a_range_stay_fp32(images: Exported, engine: str) -> None:
    forms = images.weights(rounded, CONVOLUTIONS)
    lowered = images.lowered(engine, forms, activations=Activations(has_dynamic_inputs=True))
    assert lowered.precision == "fp32"
    reason = f"{engine} has fast int8 convolutions only of inputs with a fixed range"
    assert lowered.notes == (f"Computed in fp32, because {reason}: {', '.join(CONVOLUTIONS)}.",)
    assert miss(answers(lowered, engine, SAMPLE), images.expected()) < 1e-5


@every_engine
def test_two_factors_are_two_convolutions(images: Exported, engine: str) -> None:
    forms = images.weights(lambda weight: thin(weight, 4), CONVOLUTIONS)
    lowered = images.lowered(engine, forms)
    assert operations(lowered)["Conv"] == 6
    assert miss(answers(lowered, engine, SAMPLE), images.expected()) < 1e-5
