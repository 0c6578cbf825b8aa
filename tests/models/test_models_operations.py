"""The closed form of a step against the specification's FLOPs and against the real step, operation by operation."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from kleiber.cost import FLOP_CONVENTIONS, optimizer_cost
from kleiber.cost.flops import FlopConvention
from kleiber.cost.module_cost import fold_modules
from kleiber.cost.operations import Operation, OperationKind, Phase
from kleiber.cost.trace.operation_table import OperationSketch, describe
from kleiber.cost.trace.parameters import count_parameters
from kleiber.cost.usage import Usage
from kleiber.data import Batch
from kleiber.errors import RecipeError
from kleiber.models import build
from kleiber.models.gpt import GPTSpec
from kleiber.models.gpt.operations import module_params, step_operations
from kleiber.runs import OptimizerRecipe
from kleiber.tasks import LanguageModelling
from kleiber.train.optimizer import Optimizer

CONTEXT = 96
SIZES = [
    {"depth": 2, "width": 64, "num_heads": 4},
    {"depth": 3, "width": 48, "num_heads": 3, "num_kv_heads": 1, "is_tied": False},
    {"depth": 1, "width": 96, "mlp_width": 600},
]


class Trace(TorchDispatchMode):
    """Describe every call of a step by its phase."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Phase, OperationSketch]] = []
        self.phase: Phase = "forward"

    def __torch_dispatch__(self, func: Callable, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        sketch = describe(func, args, kwargs, out)
        if sketch is not None:
            self.calls.append((self.phase, sketch))
        return out


def spec_of(size: dict[str, object]) -> GPTSpec:
    return GPTSpec.from_dial(size, vocab_size=500, context=128)


def trace_train(spec: GPTSpec, usage: Usage) -> list[tuple[Phase, OperationSketch]]:
    """Do what `kleiber train` does in a step."""
    module = build(spec)
    if usage.is_checkpointed:
        for block in module.blocks:
            block.forward = lambda *args, inner=block.forward: checkpoint(inner, *args, use_reentrant=False)
    optimizer = Optimizer(module, module.param_groups(), OptimizerRecipe(name=usage.optimizer))
    tokens = np.ones((usage.batch_size // usage.accumulation, CONTEXT + 1), dtype=np.int64)
    with Trace() as trace:
        for _ in range(usage.accumulation):
            trace.phase = "forward"
            with torch.autocast("cpu", torch.bfloat16, enabled=usage.precision == "bf16"):
                loss = (
                    LanguageModelling().loss(module, Batch({"tokens": tokens}, cursor=0)) / usage.accumulation
                )
            trace.phase = "backward"
            loss.backward()
        trace.phase = "optimizer"
        optimizer.clip_(1.0)
        optimizer.step(1.0)
    return trace.calls


Amounts = dict[tuple[Phase, OperationKind], tuple[int, int, int]]


def traced_amounts(calls: Iterable[tuple[Phase, OperationSketch]]) -> Amounts:
    """Return FLOPs, bytes and calls by phase and kind; after the backward pass all but products is the optimizer's."""
    total: dict[tuple[Phase, OperationKind], Counter[str]] = {}
    for phase, sketch in calls:
        kind = "optimizer" if phase == "optimizer" and not sketch.flops else sketch.kind
        total.setdefault((phase, kind), Counter()).update(
            flops=sketch.flops, moved=sketch.moved_bytes, calls=1
        )
    return {key: (sums["flops"], sums["moved"], sums["calls"]) for key, sums in total.items()}


def closed_amounts(operations: Iterable[Operation]) -> Amounts:
    total: dict[tuple[Phase, OperationKind], Counter[str]] = {}
    for op in operations:
        sums = {"flops": op.total_flops, "moved": op.total_moved_bytes, "calls": op.num_calls}
        total.setdefault((op.phase, op.kind), Counter()).update(sums)
    return {key: (sums["flops"], sums["moved"], sums["calls"]) for key, sums in total.items()}


USAGES = [
    {},
    {"optimizer": "muon"},
    {"accumulation": 2},
    {"is_checkpointed": True},
    {"precision": "bf16"},
    {"precision": "bf16", "is_checkpointed": True, "accumulation": 4},
]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("changes", USAGES, ids=str)
def test_a_training_step_is_what_the_real_one_does(size: dict[str, object], changes: dict[str, Any]) -> None:
    spec, usage = spec_of(size), Usage.model_validate({"batch_size": 4, **changes})
    traced, closed = (
        traced_amounts(trace_train(spec, usage)),
        closed_amounts(step_operations(spec, usage, CONTEXT)),
    )
    assert closed.keys() == traced.keys()
    for key, (flops, moved, calls) in traced.items():
        assert closed[key][0] == flops, key
        assert closed[key][1] == pytest.approx(moved, rel=0.01), key
        if (
            key[0] != "optimizer" and usage.accumulation == 1
        ):  # the real loop sums up gradients tensor by tensor
            assert closed[key][2] == pytest.approx(calls, abs=4), key  # scalars of the loss are left out


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_serving_is_what_a_forward_call_does(size: dict[str, object]) -> None:
    spec = spec_of(size)
    module, tokens = build(spec).eval(), torch.ones(4, CONTEXT, dtype=torch.int64)
    with torch.no_grad(), Trace() as trace:
        module(tokens)
    traced = traced_amounts(trace.calls)
    closed = closed_amounts(step_operations(spec, Usage(mode="infer", batch_size=4), CONTEXT))
    assert closed.keys() == traced.keys()
    for key, (flops, moved, calls) in traced.items():
        assert closed[key] == (flops, pytest.approx(moved, rel=0.01), calls), key


specs = st.builds(
    lambda depth, heads, groups, head_dim, mlp_width, is_tied: GPTSpec(
        depth=depth, width=heads * groups * head_dim, num_heads=heads * groups, num_kv_heads=heads, head_dim=head_dim,
        mlp_width=mlp_width, vocab_size=300, context=64, is_tied=is_tied,
    ),
    st.integers(1, 5), st.integers(1, 3), st.integers(1, 3), st.sampled_from([2, 8]), st.integers(1, 40), st.booleans(),
)  # fmt: skip


@given(
    spec=specs,
    batch=st.integers(1, 9),
    context=st.integers(1, 64),
    convention=st.sampled_from([*FLOP_CONVENTIONS]),
)
def test_flops_are_those_of_the_spec(
    spec: GPTSpec, batch: int, context: int, convention: FlopConvention
) -> None:
    operations = step_operations(spec, Usage(batch_size=batch), context, convention=convention)
    expected = spec.flops(batch, context, convention=convention)
    by_phase = {
        phase: sum(op.total_flops for op in operations if op.phase == phase)
        for phase in ("forward", "backward")
    }
    assert by_phase == {"forward": expected.forward, "backward": expected.backward}
    served = step_operations(spec, Usage(mode="infer", batch_size=batch), context, convention=convention)
    assert sum(op.total_flops for op in served) == expected.forward


@given(spec=specs, micro_batches=st.integers(1, 6))
def test_micro_batches_do_the_same_work(spec: GPTSpec, micro_batches: int) -> None:
    whole = step_operations(spec, Usage(batch_size=60), 16)
    parts = step_operations(spec, Usage(batch_size=60, accumulation=micro_batches), 16)
    assert sum(op.total_flops for op in parts) == sum(op.total_flops for op in whole)
    assert sum(op.num_calls for op in parts) >= micro_batches * sum(
        op.num_calls for op in whole if op.phase == "forward"
    )


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_modules_are_those_of_the_built_one(size: dict[str, object]) -> None:
    spec = spec_of(size)
    real = fold_modules(count_parameters(build(spec)).modules, depth=1)
    tree = fold_modules(module_params(spec), step_operations(spec, Usage(batch_size=4), CONTEXT))
    assert [(node.path, node.num_params) for node in tree.walk()] == [
        (n.path, n.num_params) for n in real.walk()
    ]
    assert tree.forward_flops == spec.flops(4, CONTEXT).forward
    head = 2 * 4 * CONTEXT * spec.vocab_size * spec.width
    assert tree.children[0].forward_flops == tree.forward_flops - head


def test_products_say_their_flops() -> None:
    for op in step_operations(spec_of(SIZES[1]), Usage(optimizer="muon", is_checkpointed=True), CONTEXT):
        if op.kind == "matmul":
            batch, rows, columns, inner = op.shape
            assert op.flops == 2 * batch * rows * columns * inner


def test_muon_does_the_products_that_its_cost_says() -> None:
    spec = spec_of(SIZES[0])
    operations = step_operations(spec, Usage(optimizer="muon"), CONTEXT)
    cost = optimizer_cost("muon", spec.count().total, spec.hidden_shapes())
    assert sum(op.total_flops for op in operations if op.phase == "optimizer") == cost.flops


@pytest.mark.parametrize(("optimizer", "passes"), [("sgd", 3), ("momentum", 5), ("adam", 7), ("adamw", 7)])
def test_an_update_reads_weights_gradients_and_state_and_writes_weights_and_state(
    optimizer: Any, passes: int
) -> None:
    spec = spec_of(SIZES[0])
    (update,) = [
        op for op in step_operations(spec, Usage(optimizer=optimizer), 8) if op.name.startswith("_fused")
    ]
    assert update.moved_bytes == passes * 4 * spec.count().total


def test_checkpointing_costs_another_forward_pass_but_for_the_last_product() -> None:
    spec = spec_of(SIZES[0])
    plain, again = (
        step_operations(spec, Usage(batch_size=4, is_checkpointed=flag), 64) for flag in (False, True)
    )
    block = sum(op.total_flops for op in plain if op.module == "blocks" and op.phase == "forward")
    last = spec.depth * 2 * 4 * 64 * spec.width * spec.mlp_width
    assert sum(op.total_flops for op in again) - sum(op.total_flops for op in plain) == block - last


def test_served_values_are_as_wide_as_their_precision() -> None:
    spec = spec_of(SIZES[0])
    wide, narrow = (step_operations(spec, Usage(mode="infer", precision=p), 64) for p in ("fp32", "bf16"))
    assert {op.dtype for op in narrow} == {"bf16"}
    ratio = sum(op.total_moved_bytes for op in wide) / sum(op.total_moved_bytes for op in narrow)
    assert ratio == pytest.approx(2.0, rel=0.02)  # token ids stay as they are


def test_micro_batches_must_divide_the_batch() -> None:
    with pytest.raises(RecipeError, match=r"accumulation 3 must divide batch_size") as caught:
        step_operations(spec_of(SIZES[0]), Usage(batch_size=8, accumulation=3), 64)
    assert caught.value.got == 8
    assert caught.value.hint == "a batch of 9"


def test_a_hundred_blocks_are_planned_in_milliseconds() -> None:
    spec = GPTSpec.from_dial({"depth": 100}, vocab_size=50_000, context=2048)
    times_s = []
    for _ in range(10):
        start = time.perf_counter()
        step_operations(spec, Usage(optimizer="muon", is_checkpointed=True), 2048)
        times_s.append(time.perf_counter() - start)
    assert min(times_s) < 0.005
