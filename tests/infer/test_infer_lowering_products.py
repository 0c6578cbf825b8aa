from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lowering_examples import ENGINES, Exported, Texts, answers, miss, operations, rounded, thin
from torch import Tensor

from kleiber.infer.lowering import to_bytes
from kleiber.infer.lowering.products import input_grid
from kleiber.models.stored import Activations, Form, LowRank, Masked, Quantized

LAYERS = ("up.weight", "bare", "head.weight")
ALL = ("table.weight", *LAYERS)
TOKENS = torch.randint(0, 12, (5, 7), generator=torch.Generator().manual_seed(1))

every_engine = pytest.mark.parametrize("engine", ENGINES)


@pytest.fixture(scope="module")
def texts() -> Exported:
    return Exported(Texts(), TOKENS)


@every_engine
def test_nothing_asked_is_fp32(texts: Exported, engine: str) -> None:
    texts.weights(lambda weight: weight, ())
    lowered = texts.lowered(engine, {})
    assert (lowered.precision, lowered.notes) == ("fp32", ())
    for sample in (TOKENS, TOKENS[:1, :1]):
        assert miss(answers(lowered, engine, sample), texts.expected(sample)) < 1e-5


@every_engine
@pytest.mark.parametrize(
    ("num_bits", "is_symmetric", "said"),
    [
        (8, True, "int8 weights"),
        (8, False, "int8 weights"),
        (5, True, "int8 weights"),
        (4, False, "int4 weights"),
        (3, True, "int4 weights"),
    ],
)
def test_weights_alone(texts: Exported, engine: str, num_bits: int, is_symmetric: bool, said: str) -> None:
    forms = texts.weights(lambda weight: rounded(weight, num_bits, is_symmetric=is_symmetric), LAYERS)
    lowered = texts.lowered(engine, forms)
    assert (lowered.precision, lowered.notes) == (said, ())
    # The engines bring inputs to int8 by block.
    assert miss(answers(lowered, engine, TOKENS), texts.expected()) < 0.05


@every_engine
def test_groups_of_columns(texts: Exported, engine: str) -> None:
    forms = texts.weights(lambda weight: rounded(weight, 4, num_groups=2, is_symmetric=False), ("up.weight",))
    lowered = texts.lowered(engine, forms)
    assert lowered.precision == "int4 weights"
    assert miss(answers(lowered, engine, TOKENS), texts.expected()) < 0.05


def test_groups_that_onnxruntime_has_no_product_for_stay_fp32(texts: Exported) -> None:
    forms = texts.weights(lambda weight: rounded(weight, 4, num_groups=8), ("up.weight",))
    lowered = texts.lowered("onnxruntime", forms)
    assert lowered.precision == "fp32"
    assert lowered.notes == (
        "Computed in fp32, because onnxruntime has no fast products for their groups of columns: up.weight.",
    )
    assert miss(answers(lowered, "onnxruntime", TOKENS), texts.expected()) < 1e-5


@every_engine
@pytest.mark.parametrize(("num_groups", "is_symmetric"), [(1, True), (1, False), (4, True)])
def test_tables_are_looked_up_as_they_are_stored(
    texts: Exported, engine: str, num_groups: int, is_symmetric: bool
) -> None:
    forms = texts.weights(
        lambda weight: rounded(weight, 4, num_groups=num_groups, is_symmetric=is_symmetric), ("table.weight",)
    )
    lowered = texts.lowered(engine, forms)
    assert lowered.precision == "int8 embeddings"
    assert "table.weight" not in lowered.model.graph.initializers
    assert miss(answers(lowered, engine, TOKENS), texts.expected()) < 1e-5


def on_grid(x: Tensor, low: float, high: float) -> Tensor:
    scale, zero = (float(one) for one in input_grid(low, high))
    return ((x / scale).round() + zero).clamp(0, 255).sub(zero) * scale


@every_engine
def test_inputs_of_a_fixed_range_lie_on_its_grid(texts: Exported, engine: str) -> None:
    forms = texts.weights(lambda weight: rounded(weight, is_symmetric=False, num_bits=7), ("head.weight",))
    lowered = texts.lowered(engine, forms, activations=Activations(input_ranges={"head.weight": (-0.4, 0.6)}))
    assert (lowered.precision, lowered.notes) == ("int8", ())
    module = texts.module
    handle = module.head.register_forward_pre_hook(lambda _, args: (on_grid(args[0], -0.4, 0.6),))
    expected = texts.expected()
    handle.remove()
    assert miss(texts.expected(), expected) > 1e-3
    assert miss(answers(lowered, engine, TOKENS), expected) < 1e-4


def test_inputs_by_the_batch_are_products_of_integers_in_onnxruntime(texts: Exported) -> None:
    forms = texts.weights(rounded, ("head.weight",))
    lowered = texts.lowered("onnxruntime", forms, activations=Activations(has_dynamic_inputs=True))
    assert lowered.precision == "dynamic int8"
    assert operations(lowered)["MatMulInteger"] == 1
    module = texts.module
    handle = module.head.register_forward_pre_hook(
        lambda _, args: (on_grid(args[0], float(args[0].min()), float(args[0].max())),)
    )
    expected = texts.expected()
    handle.remove()
    assert miss(answers(lowered, "onnxruntime", TOKENS), expected) < 1e-4


def test_inputs_by_the_batch_are_openvinos_own_doing(texts: Exported) -> None:
    forms = texts.weights(rounded, LAYERS)
    lowered = texts.lowered("openvino", forms, activations=Activations(has_dynamic_inputs=True))
    assert lowered.precision == "dynamic int8"
    assert miss(answers(lowered, "openvino", TOKENS), texts.expected()) < 0.05


def factors(weight: Tensor) -> LowRank:
    found = thin(weight, 6)
    return LowRank(rounded(found.left_RK, 8), rounded(found.right_KC, 8))


@every_engine
@pytest.mark.parametrize(
    ("make", "said", "most"),
    [(lambda weight: thin(weight, 6), "fp32", 1e-5), (factors, "int8 weights", 0.05)],
)
def test_two_factors_are_two_products(
    texts: Exported, engine: str, make: Callable[[Tensor], Form], said: str, most: float
) -> None:
    forms = texts.weights(make, ALL)
    lowered = texts.lowered(engine, forms)
    assert lowered.precision == said
    assert not set(ALL) & set(lowered.model.graph.initializers)
    assert miss(answers(lowered, engine, TOKENS), texts.expected()) < most


@every_engine
def test_zeros_are_multiplied_by_and_said(texts: Exported, engine: str) -> None:
    texts.weights(lambda weight: weight, ())
    forms: dict[str, Any] = {name: Masked(torch.ones(1, 1, dtype=torch.bool)) for name in ALL}
    lowered = texts.lowered(engine, forms)
    reason = "the engine multiplies by zeros as by any number"
    assert lowered.notes == (
        f"Computed in fp32, because {reason}: table.weight, up.weight, bare and 1 more.",
    )
    assert miss(answers(lowered, engine, TOKENS), texts.expected()) < 1e-5


def test_a_weight_that_is_not_in_the_graph_is_said(texts: Exported) -> None:
    form = Quantized(torch.zeros(1, 1, dtype=torch.uint8), torch.ones(1, 1), torch.zeros(1, 1), 4)
    notes = texts.lowered("onnxruntime", {"nothing": form}).notes
    assert notes == (
        "Computed in fp32, because the graph does not multiply by them or look them up: nothing.",
    )


def test_a_smaller_model_is_smaller(texts: Exported) -> None:
    texts.weights(lambda weight: weight, ())
    plain = len(to_bytes(texts.lowered("onnxruntime", {}).model))
    forms = texts.weights(lambda weight: rounded(weight, 4), ALL)
    assert len(to_bytes(texts.lowered("onnxruntime", forms).model)) < 0.5 * plain
