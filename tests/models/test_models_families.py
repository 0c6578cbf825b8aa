"""The contract of every family: what a spec says of itself is what its module is."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from family_examples import EXAMPLES, SHAPES, SPECS, TARGETS, Example, inputs_of, loss_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from kleiber.cost.trace.operation_flops import Call, call_flops
from kleiber.errors import RecipeError, RunFolderError
from kleiber.models import ARCHITECTURES, BROUGHT, FAMILIES, Spec, build, load, save
from kleiber.models.family import FamilyModule

CASES = [
    pytest.param(family, example, id=f"{family}-{index}")
    for family, examples in EXAMPLES.items()
    for index, example in enumerate(examples)
]
every_case = pytest.mark.parametrize(("family", "example"), CASES)
# Those whose sizes stand in somebody's file have tests of their own.
DIALLED = [family for family in FAMILIES if family not in BROUGHT]
every_family = pytest.mark.parametrize("family", DIALLED)
some = settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
BATCH = 4


def on_meta(spec: Spec) -> FamilyModule:
    """A module of the spec that takes no memory."""
    module_type = type(build(spec))
    takes_device = "device" in inspect.signature(module_type).parameters
    with torch.device("meta"):
        module = module_type(spec, **({"device": "meta"} if takes_device else {}))
    assert all(tensor.is_meta for tensor in module.state_dict().values())
    return module


def assert_consistent(module: nn.Module, spec: Spec) -> None:
    """Counts and groups say what the module holds."""
    params = dict(module.named_parameters())
    count, groups = spec.count(), module.param_groups()
    assert count.total == sum(parameter.numel() for parameter in params.values())
    assert sorted(groups.names) == sorted(params)
    assert count.embedding == sum(params[name].numel() for name in groups.embedding)
    assert all(params[name].ndim <= 1 for name in groups.norms)
    stepped = []
    for matrix in groups.hidden:
        weight = params[matrix.name]
        assert sum(matrix.row_splits) == weight.shape[0]
        stepped += [(rows, weight.numel() // weight.shape[0]) for rows in matrix.row_splits]
    assert sorted(stepped) == sorted(spec.hidden_shapes())


def test_every_family_is_held_to_the_contract() -> None:
    assert set(EXAMPLES) == set(SPECS) == set(TARGETS) == set(DIALLED)
    assert set(ARCHITECTURES.values()) == {*DIALLED, "file"}


@every_case
def test_counts_and_groups_are_those_of_the_module(family: str, example: Example) -> None:
    spec = example.spec(family)
    assert spec.family == family
    assert min(spec.depth, spec.width) >= 1
    assert_consistent(on_meta(spec), spec)


@every_family
@some
@given(data=st.data())
def test_counts_and_groups_of_any_spec(family: str, data: st.DataObject) -> None:
    spec = data.draw(SPECS[family])
    assert FAMILIES[family].of(spec.model_dump(mode="json"), "spec", RecipeError) == spec
    assert_consistent(on_meta(spec), spec)


class TracerCounter(TorchDispatchMode):
    """Kleiber's own count, for what torch's counter does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.flops += call_flops(Call(func, args, kwargs or {}, out), "full")
        return out

    def get_total_flops(self) -> int:
        return self.flops


@every_case
def test_flops_are_what_the_module_does(family: str, example: Example) -> None:
    spec = example.spec(family)
    module, inputs = build(spec), inputs_of(example.shape, BATCH)
    counters = [
        TracerCounter() if example.counter == "tracer" else FlopCounterMode(display=False) for _ in range(2)
    ]
    # Only the plain kernel of attention shows each of its products.
    with sdpa_kernel(SDPBackend.MATH):
        with counters[0]:
            loss = loss_of(example.shape, inputs, module(*inputs), has_products=False)
        with counters[1]:
            loss.backward()
    flops = spec.flops(BATCH, example.shape.context, convention="full")
    assert (flops.forward, flops.backward) == tuple(counter.get_total_flops() for counter in counters)
    assert spec.flops(2 * BATCH, example.shape.context, convention="full").forward == 2 * flops.forward
    assert spec.flops(BATCH, example.shape.context).total <= flops.total


DROPOUTS = [
    (family, field)
    for family in DIALLED
    for field in FAMILIES[family].model_fields
    if field.endswith("dropout")
]


@pytest.mark.parametrize(("family", "field"), DROPOUTS)
def test_dropout_acts_in_training_alone(family: str, field: str) -> None:
    example = EXAMPLES[family][0]
    module = build(example.spec(family).model_copy(update={"dropout": 0.0, field: 0.5}))
    for parameter in module.parameters():
        nn.init.normal_(parameter, 0.0, 0.1)  # branches that start at 0 have nothing to drop
    inputs = inputs_of(example.shape, BATCH)

    def is_same() -> bool:
        one, other = (
            (out if isinstance(out, tuple) else (out,)) for out in (module(*inputs), module(*inputs))
        )
        return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))

    assert not is_same()
    assert module.eval() is module
    assert is_same()


@every_case
def test_the_seed_alone_gives_the_weights(family: str, example: Example) -> None:
    spec = example.spec(family)
    state = torch.get_rng_state()
    one = build(spec, seed=3).state_dict()
    torch.rand(5)
    same, other = build(spec, seed=3).state_dict(), build(spec, seed=4).state_dict()
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)
    torch.set_rng_state(state)
    build(spec, seed=5)
    assert torch.equal(torch.get_rng_state(), state)


@every_case
def test_outputs_are_finite_and_of_the_shape_that_is_asked(family: str, example: Example) -> None:
    shape = example.shape
    output = build(example.spec(family))(*inputs_of(shape, BATCH))
    if shape.inputs == "captions":
        images, texts, scale = output
        assert images.shape == texts.shape
        assert torch.allclose(torch.stack([images, texts]).norm(dim=-1), torch.ones(2, BATCH), atol=1e-5)
        assert scale.numel() == 1
    else:
        asked = (
            (BATCH, shape.context, shape.vocab_size)
            if shape.num_outputs is None
            else (BATCH, shape.num_outputs)
        )
        assert tuple(output.shape) == asked
        assert output.isfinite().all()


def trained(family: str, example: Example, num_steps: int) -> tuple[FamilyModule, list[float]]:
    torch.manual_seed(0)
    module, inputs = build(example.spec(family)), inputs_of(example.shape, BATCH)
    optimizer = torch.optim.Adam(module.parameters(), lr=example.learning_rate)
    losses = []
    for _ in range(num_steps):
        loss = loss_of(example.shape, inputs, module(*inputs))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return module, losses


@every_case
def test_it_learns_one_batch_and_every_parameter_takes_part(family: str, example: Example) -> None:
    module, losses = trained(family, example, 12)
    assert min(losses[-3:]) < 0.8 * losses[0]
    silent = [name for name, parameter in module.named_parameters() if parameter.grad is None]
    assert not silent


@every_case
@torch.no_grad()
def test_what_is_saved_is_loaded(family: str, example: Example, tmp_path: Path) -> None:
    with torch.enable_grad():
        module = trained(family, example, 2)[0].eval()
    spec, inputs = example.spec(family), inputs_of(example.shape, BATCH, seed=1)
    save(module, spec, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    back, back_spec = load(tmp_path)
    assert back_spec == spec
    before, after = module.state_dict(), back.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    for ours, theirs in zip(as_tensors(module(*inputs)), as_tensors(back.eval()(*inputs)), strict=True):
        assert torch.equal(ours, theirs)
    assert all(parameter.requires_grad for parameter in back.parameters())


def as_tensors(output: Any) -> tuple[Tensor, ...]:
    return (output,) if isinstance(output, Tensor) else tuple(output)


@every_family
def test_a_folder_of_other_weights_or_sizes_is_refused(family: str, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    spec = EXAMPLES[family][0].spec(family)
    save(build(spec), spec, first)
    wider = FAMILIES[family].of_size(
        {**EXAMPLES[family][0].size, "width": 2 * spec.width}, EXAMPLES[family][0].shape
    )
    save(build(wider), wider, second)
    (first / "model.safetensors").write_bytes((second / "model.safetensors").read_bytes())
    with pytest.raises(RunFolderError, match=r"model\.safetensors: .* must be .*Got \("):
        load(first)
    (first / "config.json").write_text(json.dumps({"architectures": json_architectures(second)}))
    with pytest.raises(RunFolderError, match=r"config\.json"):
        load(first)


def json_architectures(folder: Path) -> object:
    return json.loads((folder / "config.json").read_text())["architectures"]


@every_family
def test_the_dial_reaches_a_number_of_parameters(family: str) -> None:
    shape = FAMILIES[family].example_shape
    for target in TARGETS[family]:
        spec = FAMILIES[family].of_size({"params": target}, shape)
        assert abs(spec.count().total / target - 1) < 0.2
        assert FAMILIES[family].of_size({"params": str(target)}, shape) == spec


@every_family
def test_the_dial_turns_depth_and_width(family: str) -> None:
    shape = FAMILIES[family].example_shape
    spec = FAMILIES[family].of_size({"params": TARGETS[family][0]}, shape)
    assert FAMILIES[family].of_size({"depth": spec.depth}, shape).depth == spec.depth
    assert FAMILIES[family].of_size({"width": spec.width}, shape).width == spec.width
    both = {"depth": spec.depth, "width": 2 * spec.width}
    assert FAMILIES[family].of_size(both, shape).count().total > spec.count().total


@every_family
@pytest.mark.parametrize(
    ("size", "message"),
    [
        ({"dept": 3}, "unknown key 'dept'. Did you mean 'depth'"),
        ({}, "needs depth, width or params"),
        ({"depth": 0}, "depth"),
        ({"depth": 2.5}, "depth"),
        ({"width": -8}, "width"),
        ({"width": "wide"}, "width"),
        ({"params": float("nan")}, "params"),
        ({"params": "many"}, "params"),
        ({"params": True}, "params"),
        ({"params": 1}, "params cannot be reached"),
    ],
)
def test_an_absurd_size_is_refused(family: str, size: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        FAMILIES[family].of_size(size, FAMILIES[family].example_shape)


@every_family
def test_data_that_a_family_cannot_read_is_refused(family: str) -> None:
    readable = {example.shape.inputs for example in EXAMPLES[family]}
    for kind in SHAPES.keys() - readable:
        with pytest.raises(RecipeError, match=rf"^{family} .*Got '?{kind}"):
            FAMILIES[family].of_size({"depth": 2}, SHAPES[kind])
