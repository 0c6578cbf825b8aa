"""Steps on fake tensors: bytes worked out by hand, operations against torch's own counter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from kleiber.cost.trace.lifetimes import held_bytes
from kleiber.cost.trace.step import StepTrace, trace_step
from kleiber.cost.usage import OptimizerName, Usage
from kleiber.models.subject import Inputs
from kleiber.train.muon import Muon

_WEIGHT = held_bytes(512 * 1024 * 4)
_BATCH = held_bytes(256 * 1024 * 4)
_RESULT = held_bytes(256 * 512 * 4)
_SCALAR = held_bytes(4)


def traced(
    build: Callable[[], nn.Module], *shape: int, has_workspaces: bool = False, **usage: Any
) -> StepTrace:
    """Trace a step whose loss is the sum of the result."""
    return trace_step(
        build,
        lambda: Inputs((torch.ones(*shape),)),
        lambda out: out.sum(),
        Usage.model_validate({"batch_size": shape[0], "optimizer": "sgd"} | usage),
        convention="full",
        has_workspaces=has_workspaces,
        muon=Muon,
    )


def linear() -> nn.Module:
    """A matrix of 2 MiB; a batch of 256 rows is 1 MiB, its result half of that."""
    return nn.Linear(1024, 512, bias=False)


def at(step: StepTrace, name: str, nth: int = 0) -> dict[str, int]:
    """Return what was held during the nth call of an operation, by role."""
    index = [index for index, call in enumerate(step.calls) if call.name == name][nth]
    return {role: held[index] for role, held in step.timeline.by_role.items() if held[index]}


def num_calls(step: StepTrace, name: str, phase: str) -> int:
    return sum(op.num_calls for op in step.operations if (op.name, op.phase) == (name, phase))


def test_a_linear_layer_byte_for_byte() -> None:
    step = traced(linear, 256, 1024)
    assert at(step, "mm") == {"weights": _WEIGHT, "inputs": _BATCH, "activations": _RESULT}
    # The result is given back once it is summed; its gradient is one number, expanded.
    assert at(step, "mm", 1) == {
        "weights": _WEIGHT,
        "inputs": _BATCH,
        "gradients": _WEIGHT,
        "activations": _SCALAR,
        "temporary": 2 * _SCALAR,
    }
    assert at(step, "add_") == {"weights": _WEIGHT, "inputs": _BATCH, "gradients": _WEIGHT}
    memory = step.memory
    assert (memory.weights, memory.gradients, memory.optimizer) == (_WEIGHT, _WEIGHT, 0)
    assert memory.activations == _RESULT + _SCALAR
    assert max(step.timeline.total) == 2 * _WEIGHT + _BATCH + 3 * _SCALAR
    assert memory.summary().peak == max(step.timeline.total)


def test_moments_are_named_by_phase_module_and_operation() -> None:
    step = traced(lambda: nn.Sequential(linear(), nn.ReLU()), 256, 1024, optimizer="adam")
    assert [name.partition(" (")[0] for name in step.memory.moments] == [
        "forward of 1",
        "backward of 0",
        "optimizer step",
    ]
    assert step.memory.fullest_moment == "optimizer step (div)"
    assert step.gradients_at["backward of 0 (mm)"] == _WEIGHT


def test_activations_that_the_backward_pass_needs_stay() -> None:
    step = traced(lambda: nn.Sequential(linear(), nn.ReLU(), nn.Tanh()), 256, 1024)
    # ReLU keeps its result, which is what tanh got; tanh keeps its own; the linear layer keeps its input, the batch.
    assert at(step, "sum")["activations"] == 2 * _RESULT + _SCALAR
    assert at(step, "tanh_backward")["activations"] == 2 * _RESULT + _SCALAR
    assert at(step, "threshold_backward")["activations"] == _RESULT + _SCALAR
    assert at(step, "mm", 1)["activations"] == _SCALAR


@pytest.mark.parametrize(
    ("optimizer", "state", "beside"),
    [
        ("sgd", 0, 0),
        ("momentum", _WEIGHT, 0),
        ("adagrad", _WEIGHT + _SCALAR, _WEIGHT),  # beside: the root of the sum
        (
            "adam",
            2 * _WEIGHT + _SCALAR,
            2 * _WEIGHT,
        ),  # beside: the root of the second moment, and that over its correction
        ("adamw", 2 * _WEIGHT + _SCALAR, 2 * _WEIGHT),
    ],
)
def test_state_of_the_optimizer_has_settled(optimizer: OptimizerName, state: int, beside: int) -> None:
    step = traced(linear, 256, 1024, optimizer=optimizer)
    assert step.memory.optimizer == state
    assert set(step.timeline.by_role["optimizer"]) == {state}  # from the first operation to the last
    within = [index for index, call in enumerate(step.calls) if call.phase == "optimizer"]
    assert max(step.timeline.by_role["temporary"][index] for index in within) == pytest.approx(
        beside, abs=4096
    )


def test_muon_keeps_one_value_for_hidden_matrices() -> None:
    build = lambda: nn.Sequential(nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False))  # noqa: E731 - used once
    step = traced(build, 8, 64, optimizer="muon")
    matrix = held_bytes(64 * 64 * 4)
    # The last layer is the head, which AdamW takes.
    assert step.memory.optimizer == 3 * matrix + _SCALAR
    assert any(op.phase == "optimizer" and op.kind == "matmul" for op in step.operations)


def test_tied_weights_are_held_and_updated_once() -> None:
    def build() -> nn.Module:
        model = nn.Sequential(linear(), nn.Linear(512, 1024, bias=False), linear())
        model[2].weight = model[0].weight
        return model

    step = traced(build, 256, 1024, optimizer="momentum")
    assert step.memory.weights == 2 * _WEIGHT
    assert step.memory.gradients == 2 * _WEIGHT
    assert step.memory.optimizer == 2 * _WEIGHT
    assert num_calls(step, "add", "backward") == 1  # the gradients of both uses


def test_buffers_and_plain_tensors_are_weights() -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = linear()
            self.register_buffer("shift", torch.zeros(512))
            self.table = torch.zeros(512)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.linear(x) + self.shift + self.table
            return result

    assert traced(Shifted, 256, 1024).memory.weights == _WEIGHT + 2 * held_bytes(2048)


def test_gradients_are_held_while_micro_batches_follow() -> None:
    step = traced(linear, 256, 1024, batch_size=1024, accumulation=4)
    second = at(step, "mm", 3)  # backward of the second micro-batch: the old gradient and what is added to it
    assert second["gradients"] == _WEIGHT
    assert second["temporary"] == _WEIGHT + 2 * _SCALAR
    assert at(step, "mm", 2)["gradients"] == _WEIGHT
    assert step.memory.summary().peak == 3 * _WEIGHT + _BATCH + 3 * _SCALAR


@pytest.mark.parametrize("accumulation", [1, 2, 3, 8])
def test_gradients_are_added_for_all_micro_batches_but_the_first(accumulation: int) -> None:
    step = traced(linear, 256, 1024, batch_size=256 * accumulation, accumulation=accumulation)
    assert num_calls(step, "add_", "backward") == accumulation - 1
    assert num_calls(step, "mm", "forward") == accumulation
    assert num_calls(step, "mm", "backward") == accumulation
    assert num_calls(step, "add_", "optimizer") == 1


def test_serving_keeps_no_activations() -> None:
    layers = lambda: nn.Sequential(linear(), nn.ReLU(), nn.Tanh(), nn.Sigmoid())  # noqa: E731 - used twice
    served = traced(layers, 256, 1024, mode="infer")
    assert (served.memory.gradients, served.memory.optimizer) == (0, 0)
    assert served.memory.activations == 2 * _RESULT  # what goes in and what comes out
    assert {op.phase for op in served.operations} == {"forward"}
    assert served.memory.summary().peak == _WEIGHT + _BATCH + 2 * _RESULT
    assert traced(layers, 256, 1024).memory.activations > served.memory.activations


def test_served_in_half_precision_weights_and_activations_are_half() -> None:
    served = traced(linear, 256, 1024, mode="infer", precision="bf16")
    assert served.memory.weights == held_bytes(512 * 1024 * 2)
    assert {op.dtype for op in served.operations if op.name == "mm"} == {"bf16"}


def test_trained_in_bf16_products_are_half_and_weights_are_not() -> None:
    step = traced(lambda: nn.Sequential(linear(), nn.ReLU()), 256, 1024, precision="bf16", optimizer="adam")
    assert (step.memory.weights, step.memory.gradients) == (_WEIGHT, _WEIGHT)
    assert step.memory.optimizer == 2 * _WEIGHT + _SCALAR
    assert {op.dtype for op in step.operations if op.name == "mm"} == {"bf16"}
    half = held_bytes(256 * 512 * 2)
    # The product, which ReLU overwrites nothing of, and what autocast made of the batch; and of the weights.
    assert at(step, "relu")["activations"] == 2 * half + held_bytes(256 * 1024 * 2)
    assert at(step, "relu")["copies"] == held_bytes(512 * 1024 * 2)
    assert max(step.memory.copies.values()) == held_bytes(512 * 1024 * 2)


def test_operations_count_as_torch_counts() -> None:
    def build() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, stride=2),
            nn.Flatten(),
            nn.Linear(8 * 7 * 7, 10),
        )

    step = traced(build, 4, 3, 16, 16)
    with FlopCounterMode(display=False) as counter:
        build()(torch.ones(4, 3, 16, 16)).sum().backward()
    assert sum(op.total_flops for op in step.operations) == counter.get_total_flops() > 0
    by_module = {op.module: op.total_flops for op in step.operations if op.phase == "forward" and op.flops}
    assert by_module["5"] == 2 * 4 * 8 * 7 * 7 * 10


def test_checkpointed_blocks_keep_their_inputs_and_compute_again() -> None:
    def build() -> nn.Module:
        blocks = [nn.Sequential(nn.Linear(256, 256), nn.Tanh(), nn.Sigmoid(), nn.SiLU()) for _ in range(6)]
        return nn.Sequential(*blocks)

    plain, lean = (traced(build, 512, 256, is_checkpointed=asked) for asked in (False, True))
    assert lean.memory.activations < 0.5 * plain.memory.activations
    assert num_calls(lean, "addmm", "backward") == 6
    assert num_calls(plain, "addmm", "backward") == 0
    assert {call.module for call in lean.calls if call.name == "mm"} == {f"{block}.0" for block in range(6)}


def test_what_is_held_at_the_peak_is_told_by_module() -> None:
    step = traced(lambda: nn.Sequential(nn.Linear(64, 4096), nn.Tanh(), nn.Linear(4096, 4)), 512, 64)
    index = step.timeline.peak_index
    assert sum(step.activations.values()) == step.timeline.by_role["activations"][index]
    assert step.activations["1"] == held_bytes(512 * 4096 * 4)


def test_libraries_hold_more_where_they_are_counted() -> None:
    build = lambda: nn.Sequential(nn.Conv2d(16, 16, 3), nn.ReLU())  # noqa: E731 - used twice
    bare, full = (traced(build, 8, 16, 32, 32, has_workspaces=asked) for asked in (False, True))
    assert set(bare.timeline.by_role["libraries"]) == {0}
    assert min(full.timeline.by_role["libraries"]) > 0
    assert full.memory.summary().peak > bare.memory.summary().peak
    assert bare.operations == full.operations
