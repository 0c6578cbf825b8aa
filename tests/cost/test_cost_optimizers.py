from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from kleiber.cost import StepMemory, optimizer_cost
from kleiber.cost.usage import OPTIMIZERS
from kleiber.models import build
from kleiber.models.gpt import GPTSpec
from kleiber.runs import OptimizerRecipe
from kleiber.train.optimizer import Optimizer

SPEC = GPTSpec.from_dial({"depth": 2, "width": 32, "num_kv_heads": 1}, vocab_size=300, context=16)


def stepped(name: str) -> tuple[Optimizer, int]:
    module = build(SPEC)
    optimizer = Optimizer(module, module.param_groups(), OptimizerRecipe(name=name))
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    with FlopCounterMode(display=False) as counter:
        optimizer.step(1.0)
    return optimizer, counter.get_total_flops()


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_state_and_operations_are_those_of_the_real_optimizer(name: str) -> None:
    optimizer, flops = stepped(name)
    cost = optimizer_cost(name, SPEC.count().total, SPEC.hidden_shapes())
    counters = [tensor.nbytes for tensor in optimizer.tensors().values() if tensor.ndim == 0]
    assert cost.state_bytes == sum(tensor.nbytes for tensor in optimizer.tensors().values()) - sum(counters)
    assert cost.flops == flops


def test_hidden_shapes_are_the_modules() -> None:
    module = build(SPEC)
    shapes = [
        (rows, module.get_parameter(matrix.name).shape[1])
        for matrix in module.param_groups().hidden
        for rows in matrix.row_splits
    ]
    assert sorted(shapes) == sorted(SPEC.hidden_shapes())


def test_muon_worked_by_hand() -> None:
    # one 4x8 matrix and 68 other parameters: 4*32 + 8*68 bytes; 5 rounds of 2*4*4*8 twice and 2*4*4*4
    cost = optimizer_cost("muon", 100, [(8, 4)])
    assert (cost.state_bytes, cost.flops) == (672, 5 * (2 * 256 + 128))
    assert cost.temporary_bytes == 4 * (3 * 32 + 2 * 16)


def test_temporaries_of_a_loop_worked_by_hand() -> None:
    # The root of one parameter's second moment stays until the next one's is there.
    sizes = [10, 100, 60]
    held = {name: optimizer_cost(name, 170, [], loop_sizes=sizes).temporary_bytes for name in OPTIMIZERS}
    assert held == {
        "sgd": 0,
        "momentum": 0,
        "adagrad": 4 * (100 + 60),
        "rmsprop": 4 * (100 + 60),
        "rmsprop_momentum": 4 * (100 + 60),
        "adam": 4 * (100 + 2 * 60),
        "adamw": 4 * (100 + 2 * 60),
        "muon": 4 * (100 + 2 * 60),
    }
    assert optimizer_cost("adamw", 170, [], loop_sizes=[10, 100]).temporary_bytes == 4 * (10 + 2 * 100)


def test_stacks_of_muon_beside_the_last_update() -> None:
    # 4x8 twice, then 4x4: 4 bytes of 3 * 16 and 2 * 16, beside the 64 of the update before; or of 3 * 64 and 2 * 32.
    assert optimizer_cost("muon", 80, [(4, 8), (8, 4), (4, 4)]).temporary_bytes == 4 * (3 * 64 + 2 * 32)
    assert optimizer_cost("muon", 96, [(8, 8), (4, 8)]).temporary_bytes == 4 * (3 * 64 + 2 * 64)
    assert optimizer_cost("muon", 96, [(2, 32), (8, 8)]).temporary_bytes == 4 * (64 + 3 * 64 + 2 * 64)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_values(name: str) -> None:
    assert optimizer_cost(name, 50, []).state_bytes == 4 * OPTIMIZERS[name] * 50


def test_the_peak_is_the_fullest_moment() -> None:
    memory = StepMemory(weights=10, gradients=10, optimizer=20, activations=7, moments={"a": 11, "b": 19})
    assert memory.fullest_moment == "b"
    assert (memory.summary().peak, memory.summary(5.0).peak) == (49, 54)
