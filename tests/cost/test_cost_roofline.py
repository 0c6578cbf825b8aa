"""Time of operations and steps on devices that are described by round numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kleiber.cost.devices import Device, find_device
from kleiber.cost.kernel_efficiency import (
    ATTENTION_BACKWARD_FRAC,
    EFFICIENCIES,
    FUSED_PASSES_FRAC,
    LAUNCH_S,
    SUSTAINED_FRAC,
    product_frac,
)
from kleiber.cost.layouts import BlockShape, Layout
from kleiber.cost.operations import OPERATION_KINDS, Operation
from kleiber.cost.roofline import DeviceTime, operation_time, step_time
from kleiber.cost.stages import Stage, pipeline_stages
from kleiber.cost.usage import Usage
from kleiber.errors import RecipeError
from kleiber.models.gpt.operations import step_operations
from kleiber.models.gpt.spec import GPTSpec
from kleiber.runs import ParamCount

CARD = Device(
    name="card",
    title="",
    peak_flops_per_s={"bf16": 1e15},
    bandwidth_bytes_per_s=1e12,
    interconnect_bytes_per_s=100e9,
    network_bytes_per_s=10e9,
    devices_per_node=8,
)
SHAPE = BlockShape(depth=8, width=1024, num_heads=8, num_kv_heads=8, head_dim=128, vocab_size=1000)
COUNT = ParamCount(embedding=1000, body=8000, head=1000)
PRODUCT = Operation(
    "mm", "matmul", "forward", "blocks", (1, 4096, 4096, 4096), 2 * 4096**3, 3 * 2 * 4096**2, "bf16", 8
)
HEAD = replace(PRODUCT, module="head", num_calls=1)
LOOKUP = Operation("embedding", "lookup", "forward", "", (4096, 1024), 0, 10**9, "bf16")
UPDATE = Operation("_fused_adamw_", "optimizer", "optimizer", "", (10_000,), 0, 10**9, "fp32")


def timed(*operations: Operation, layout: Layout | None = None, **options: Any) -> DeviceTime:
    usage = options.pop("usage", Usage(batch_size=8, precision="bf16"))
    return step_time(operations, CARD, layout, usage=usage, params=COUNT, blocks=SHAPE, **options)


def test_every_kind_has_an_efficiency() -> None:
    assert EFFICIENCIES.keys() == OPERATION_KINDS.keys()
    for reached in EFFICIENCIES.values():
        assert 0 < reached.compute_frac <= 1
        assert 0 < reached.bandwidth_frac <= 1
        assert reached.source


def test_a_product_is_bound_by_compute() -> None:
    time = operation_time(replace(PRODUCT, num_calls=1), CARD)
    best_s = 2 * 4096**3 / (1e15 * 0.80)
    assert time.bound == "compute"
    # 32 x 32 tiles are eight whole waves of 128; 64 of 4160 terms are a tile's start and end.
    assert time.time_s == pytest.approx(best_s * 4160 / 4096 + LAUNCH_S)


def test_thin_products_are_bound_by_bandwidth() -> None:
    one_row = Operation(
        "mm", "matmul", "forward", "", (1, 1, 4096, 4096), 2 * 4096**2, 2 * 4096**2, "bf16", 3
    )
    time = operation_time(one_row, CARD)
    assert time.bound == "bandwidth"
    assert time.time_s == pytest.approx(3 * (2 * 4096**2 / (1e12 * 0.85) + LAUNCH_S))


def test_tiny_operations_are_bound_by_their_launch() -> None:
    add = Operation("add", "elementwise", "forward", "", (8,), 0, 96, "fp32", 10)
    time = operation_time(add, CARD)
    assert time.bound == "launch"
    assert time.time_s == pytest.approx(10 * LAUNCH_S, rel=1e-3)


def test_attention_does_more_backward_than_is_counted() -> None:
    forward = Operation("sdpa", "attention", "forward", "blocks", (8, 8, 4096, 128), 10**13, 10**6, "bf16")
    backward = replace(forward, phase="backward")
    ratio = operation_time(backward, CARD).time_s / operation_time(forward, CARD).time_s
    assert ratio == pytest.approx(1 / ATTENTION_BACKWARD_FRAC, rel=1e-3)


def test_fused_passes_move_less() -> None:
    mul = Operation("mul", "elementwise", "forward", "blocks", (1 << 28,), 0, 10**9, "bf16")
    assert operation_time(mul, CARD, is_fused=True).time_s == pytest.approx(
        FUSED_PASSES_FRAC * operation_time(mul, CARD).time_s
    )
    assert operation_time(UPDATE, CARD, is_fused=True) == operation_time(UPDATE, CARD)


def test_an_unknown_bandwidth_bounds_nothing() -> None:
    unknown = CARD.model_copy(update={"bandwidth_bytes_per_s": None})
    assert operation_time(UPDATE, unknown).time_s == pytest.approx(LAUNCH_S)


def test_a_dtype_without_a_peak() -> None:
    with pytest.raises(RecipeError, match="card has no peak for this dtype; it has bf16"):
        operation_time(replace(PRODUCT, dtype="fp16"), CARD)
    assert operation_time(UPDATE, CARD).time_s > 0  # no arithmetic, no peak


@pytest.mark.parametrize(
    ("shape", "frac"),
    [
        ((1, 16384, 16384, 10**9), 1.0),
        ((1, 64, 128 * 128, 10**9), 0.5),  # half a tile
        ((129, 128, 128, 10**9), 129 / 256),  # a second wave for one tile
        ((64, 128, 128, 64), 0.25),  # half of the units; half of the time at the start and the end
        ((1, 128, 128, 128 * 256), 0.8),  # one tile, its sums split over all units
    ],
)
def test_what_shapes_cost(shape: tuple[int, int, int, int], frac: float) -> None:
    assert product_frac(*shape) == pytest.approx(frac, rel=1e-4)


@given(st.tuples(*[st.integers(1, 5000)] * 4))
def test_no_shape_is_better_than_the_best(shape: tuple[int, int, int, int]) -> None:
    assert 0 < product_frac(*shape) <= 1


def test_a_step_is_the_sum_of_its_operations() -> None:
    time = timed(PRODUCT, HEAD, LOOKUP, UPDATE)
    alone_s = sum(operation_time(one, CARD).time_s for one in (PRODUCT, HEAD, LOOKUP, UPDATE))
    assert time.step_time_s == time.compute_s == pytest.approx(alone_s / SUSTAINED_FRAC)
    assert (time.communication_s, time.bubble_frac) == (0, 0)
    assert sum(one.time_s for one in time.by_kind) == pytest.approx(time.compute_s)
    bounds = {one.kind: one.bound for one in time.by_kind}
    assert bounds == {"lookup": "bandwidth", "matmul": "compute", "optimizer": "bandwidth"}
    assert [one.time_s for one in time.by_kind] == sorted((one.time_s for one in time.by_kind), reverse=True)


def test_tensor_parallelism_divides_all_but_launches() -> None:
    wide = replace(PRODUCT, shape=(1, 4096, 8192, 4096), flops=2 * PRODUCT.flops)
    half = timed(wide, layout=Layout(tp=2))
    whole = timed(PRODUCT)  # as many columns as are left of the wide one
    assert half.compute_s == pytest.approx(whole.compute_s)
    assert half.step_time_s == pytest.approx(half.compute_s + half.communication.tensor_s)
    long = replace(PRODUCT, shape=(1, 4096, 4096, 8192), flops=2 * PRODUCT.flops)
    assert timed(long, layout=Layout(tp=2)).compute_s == pytest.approx(whole.compute_s)


def test_shards_share_the_update() -> None:
    assert timed(UPDATE, layout=Layout(fsdp=4)).compute_s == pytest.approx(
        ((10**9 / 4) / (1e12 * 0.85) + LAUNCH_S) / SUSTAINED_FRAC
    )
    assert timed(UPDATE, layout=Layout(ddp=4)).compute_s == timed(UPDATE).compute_s


def test_gradients_that_are_added_up_are_shared_like_the_update() -> None:
    added = Operation("add_", "elementwise", "backward", "", (COUNT.total,), 0, 10**9, "fp32", 7)
    usage = Usage(batch_size=8, accumulation=8, precision="bf16")
    # Half of the blocks, a table of the two.
    assert timed(added, layout=Layout(pp=2), usage=usage).compute_s == pytest.approx(
        7 * (0.5 * 10**9 / (1e12 * 0.85) + LAUNCH_S) / SUSTAINED_FRAC
    )


def test_the_busiest_stage_sets_the_pace_and_others_wait() -> None:
    usage = Usage(batch_size=8, accumulation=8, precision="bf16")
    operations = [replace(PRODUCT, num_calls=64), replace(HEAD, num_calls=8)]
    time = timed(*operations, layout=Layout(pp=4), usage=usage)
    call_s = operation_time(replace(PRODUCT, num_calls=1), CARD).time_s / SUSTAINED_FRAC
    assert time.compute_s == pytest.approx(24 * call_s)  # two of eight blocks, and the head
    assert time.bubble_frac == pytest.approx(3 / 11)
    assert time.step_time_s == pytest.approx((24 * call_s + time.communication_s) * 11 / 8)
    chunked = timed(*operations, layout=Layout(pp=4), usage=usage, num_chunks=2)
    assert chunked.bubble_frac == pytest.approx(3 / 19)


def test_numbered_blocks_are_blocks() -> None:
    numbered = [replace(PRODUCT, module=f"model.layers.{i}.mlp", num_calls=8) for i in range(8)]
    usage = Usage(batch_size=8, accumulation=8, precision="bf16")
    together = timed(replace(PRODUCT, num_calls=64), layout=Layout(pp=4), usage=usage)
    assert timed(*numbered, layout=Layout(pp=4), usage=usage).compute_s == pytest.approx(together.compute_s)


def test_a_real_model_never_beats_its_device() -> None:
    spec = GPTSpec.from_dial({"depth": 12, "width": 768}, vocab_size=50257, context=1024)
    usage = Usage(batch_size=32, precision="bf16")
    device = find_device("h100-sxm")
    times = {
        is_fused: step_time(
            step_operations(spec, usage, 1024), device, usage=usage, params=spec.count(), is_fused=is_fused
        ).step_time_s
        for is_fused in (False, True)
    }
    best_s = spec.flops(32, 1024).total / device.peak("bf16")[1]
    assert best_s < times[True] < times[False] < 20 * best_s


def _by_hand(operation: Operation, stage: Stage, count: ParamCount, layout: Layout) -> Operation:
    """One device's part of an operation as an operation of its own."""
    num_calls, by, shape = operation.num_calls, float(layout.tp), operation.shape
    if operation.phase == "optimizer" or shape == (count.total,):
        by = layout.tp * layout.fsdp * count.total / stage.num_params
    elif operation.module == "blocks":
        num_calls = round(num_calls * stage.block_frac)
    else:
        num_calls *= stage.has_embedding if operation.kind == "lookup" else stage.has_head
    if operation.kind == "matmul" and operation.phase != "optimizer":
        batch, rows, columns, inner = shape
        shape = (
            (batch, rows, round(columns / by), inner)
            if columns >= inner
            else (batch, rows, columns, round(inner / by))
        )
    flops, moved_bytes = round(operation.flops / by), round(operation.moved_bytes / by)
    return replace(operation, num_calls=num_calls, shape=shape, flops=flops, moved_bytes=moved_bytes)


@pytest.mark.parametrize("is_fused", [False, True])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize(
    "layout", [Layout(), Layout(tp=8), Layout(fsdp=4, pp=2), Layout(ddp=2, fsdp=2, tp=2, pp=4)]
)
def test_a_stage_takes_what_its_parts_would_alone(layout: Layout, optimizer: Any, is_fused: bool) -> None:
    spec = GPTSpec.from_dial({"depth": 8, "width": 512}, vocab_size=8192, context=1024)
    usage = Usage(batch_size=32, accumulation=4, precision="bf16", optimizer=optimizer)
    device, count = find_device("h100-sxm"), spec.count()
    operations = step_operations(spec, usage.model_copy(update={"batch_size": 32 // layout.num_ranks}), 1024)
    shape = BlockShape(8, 512, spec.num_heads, spec.num_kv_heads, spec.head_dim, 8192)
    time = step_time(
        operations,
        device,
        layout,
        usage=usage,
        params=count,
        blocks=shape,
        tokens_per_sample=1024,
        is_fused=is_fused,
    )
    stages = []
    for stage in pipeline_stages(count, shape, layout):
        alone = [
            (one.phase, operation_time(_by_hand(one, stage, count, layout), device, is_fused=is_fused))
            for one in operations
        ]
        passes_s = sum(one.time_s for phase, one in alone if phase != "optimizer")
        stages.append((passes_s, sum(one.time_s for _, one in alone)))
    assert time.compute_s == pytest.approx(max(stages)[1] / SUSTAINED_FRAC, rel=1e-9)
