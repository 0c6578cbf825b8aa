"""Layers solved in the order of use, each on what the solved ones before it give, in one forward pass."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kleiber.compress.calibration import Calibration
from kleiber.compress.in_order import Solve, solve_in_order, with_form_
from kleiber.compress.inputs import hessians
from kleiber.compress.layers import Layer, find_layers, select
from kleiber.data import Batch
from kleiber.errors import DataError
from kleiber.models import build
from kleiber.models.family import FamilyModule
from kleiber.models.gpt import GPTSpec
from kleiber.models.groups import ParamGroups, groups_of
from kleiber.models.stored import Form, LowRank, Masked


class Net(FamilyModule):
    """Two layers of which the second is left out for samples that begin with 0; counts its forward passes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3, bias=False)
        self.sometimes = nn.Linear(3, 3, bias=False)
        self.last = nn.Linear(3, 2, bias=False)
        self.passes: list[int] = []
        self.to(torch.float64)

    def forward(self, features_BF: Tensor) -> Tensor:
        self.passes.append(len(features_BF))
        x_BF = self.first(features_BF)
        if bool(features_BF[0, 0] != 0):
            x_BF = self.sometimes(x_BF)
        out: Tensor = self.last(x_BF)
        return out

    def param_groups(self) -> ParamGroups:
        return groups_of(self, head=["last.weight"])


def calibration(*arrays: np.ndarray, role: str = "features") -> Calibration:
    return Calibration(tuple(Batch({role: one}, len(one)) for one in arrays), "made", 1, 0, "0")


def layers_of(module: nn.Module, data: Calibration) -> tuple[Layer, ...]:
    return find_layers(module, data.batches[0])


def halved(layer: Layer, W_RC: Tensor, H_CC: Tensor) -> Tensor:
    return W_RC / 2


def test_each_layer_sees_what_the_halved_ones_before_it_give() -> None:
    torch.manual_seed(0)
    module = build(GPTSpec.from_dial({"depth": 2, "width": 32, "is_tied": False}, vocab_size=64, context=16))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    tokens = np.random.default_rng(0).integers(0, 64, (3, 2, 9))
    data = calibration(*tokens, role="tokens")
    layers = layers_of(module, data)[1:]
    before = {name: one.clone() for name, one in module.state_dict().items()}
    seen: dict[str, Tensor] = {}

    def solve(layer: Layer, W_RC: Tensor, H_CC: Tensor) -> Tensor:
        seen[layer.name] = H_CC
        return W_RC / 2

    solved = solve_in_order(module, data, layers, solve)
    assert list(seen) == [layer.name for layer in layers]
    # The plain way: one pass over everything for each layer.
    expected = build(module.spec)
    expected.load_state_dict(before)
    for layer in layers:
        H_CC = hessians(expected, data.batches, [layer.name])[layer.name]
        assert torch.allclose(seen[layer.name], H_CC, rtol=1e-4, atol=1e-6), layer.name
        parameter = expected.get_parameter(layer.name)
        with_form_(parameter, parameter.detach() / 2)
    assert all(
        torch.equal(solved.module.state_dict()[name], one) for name, one in expected.state_dict().items()
    )
    assert all(torch.equal(module.state_dict()[name], one) for name, one in before.items())
    assert (solved.forms, solved.unseen) == ({}, ())


def test_every_batch_passes_once_and_later_layers_wait_for_those_that_come_by() -> None:
    module = Net()
    some, none = np.array([[1.0, 2.0, 3.0]]), np.array([[0.0, 2.0, 3.0], [0.0, 1.0, 1.0]])
    data = calibration(some, none)
    rows: list[tuple[str, float]] = []

    def solve(layer: Layer, W_RC: Tensor, H_CC: Tensor) -> Tensor:
        rows.append((layer.name, round(float(H_CC[0, 0]), 6)))
        return torch.eye(len(W_RC), 3)

    solved = solve_in_order(module, data, layers_of(module, data), solve)
    # Of the second layer only the first batch, of the others the mean over all three rows, whose layers are the identity by then.
    assert rows == [
        ("first.weight", pytest.approx(1 / 3, abs=1e-6)),
        ("sometimes.weight", 1.0),
        ("last.weight", pytest.approx(1 / 3, abs=1e-6)),
    ]
    assert isinstance(solved.module, Net)
    assert solved.module.passes == [1, 1, 2]  # one to find the layers, then one of each batch
    assert solved.module.training


def test_a_layer_that_no_sample_reaches_is_kept_and_named() -> None:
    module = Net()
    data = calibration(np.array([[0.0, 2.0, 3.0]]))
    layers = (
        *layers_of(module, data),
        Layer("sometimes.weight", "linear", (3, 3), is_head=False, is_tied=False),
    )
    solved = solve_in_order(module, data, layers, halved)
    assert solved.unseen == ("sometimes.weight",)
    assert torch.equal(solved.module.get_parameter("sometimes.weight"), module.sometimes.weight)
    assert torch.equal(solved.module.get_parameter("last.weight"), module.last.weight / 2)


def test_a_tied_table_is_solved_where_it_multiplies() -> None:
    module = build(GPTSpec.from_dial({"depth": 1, "width": 32}, vocab_size=64, context=16))
    data = calibration(np.arange(18).reshape(2, 9), role="tokens")
    (table,) = select(layers_of(module, data), only=["embedding"])
    solved = solve_in_order(module, data, [table], halved)
    assert solved.unseen == ()
    assert torch.equal(solved.module.get_parameter("embedding"), module.get_parameter("embedding") / 2)


@pytest.mark.parametrize("failing", ["first.weight", "sometimes.weight", "last.weight"])
def test_what_a_solver_raises_comes_out_and_no_pass_is_left_behind(failing: str) -> None:
    def solve(layer: Layer, W_RC: Tensor, H_CC: Tensor) -> Tensor:
        if layer.name == failing:
            raise ValueError(failing)
        return W_RC

    module, data = Net(), calibration(np.ones((2, 3)), np.zeros((2, 3)))
    others = threading.active_count()  # of other libraries that the tests before have used
    with pytest.raises(ValueError, match=failing):
        solve_in_order(module, data, layers_of(module, data), solve)
    assert threading.active_count() == others


def test_what_a_module_raises_comes_out_too() -> None:
    module = Net()
    layers = layers_of(module, calibration(np.ones((2, 3))))
    others = threading.active_count()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        solve_in_order(module, calibration(np.ones((2, 4))), layers, halved)
    assert threading.active_count() == others


def test_inputs_that_are_no_numbers_are_refused_by_name() -> None:
    module, data = Net(), calibration(np.array([[1.0, np.nan, 0.0]]))
    with pytest.raises(
        DataError, match=r"calibration data gave first.weight inputs that are NaN or infinite"
    ):
        solve_in_order(module, data, layers_of(module, data), halved)


def test_a_form_is_kept_and_the_weight_is_what_it_stands_for() -> None:
    is_kept_RC = torch.tensor([[True, False, True]] * 3)
    product = LowRank(torch.ones(2, 1), torch.tensor([[1.0, 2.0, 3.0]]))
    forms: dict[str, Form] = {"first.weight": Masked(is_kept_RC), "last.weight": product}
    solve: Solve = lambda layer, W_RC, H_CC: forms[layer.name]  # noqa: E731
    module, data = Net(), calibration(np.array([[0.0, 2.0, 3.0]]))
    solved = solve_in_order(module, data, layers_of(module, data), solve)
    assert solved.forms == forms
    assert torch.equal(solved.module.get_parameter("first.weight"), module.first.weight * is_kept_RC)
    assert solved.module.get_parameter("last.weight").tolist() == [[1.0, 2.0, 3.0]] * 2
