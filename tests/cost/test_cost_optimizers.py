from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from kleiber.cost import StepMemory, optimizer_cost
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
    assert cost.temporary_bytes == 4 * 3 * (32 + 16)


def test_the_peak_is_the_fullest_moment() -> None:
    memory = StepMemory(weights=10, gradients=10, optimizer=20, activations=7, moments={"a": 11, "b": 19})
    assert memory.fullest_moment == "b"
    assert (memory.summary().peak, memory.summary(5.0).peak) == (49, 54)
