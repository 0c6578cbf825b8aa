"""Bytes that devices send each other and the seconds that they take, by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kleiber.cost.communication import (
    LINK_EFFICIENCY_FRAC,
    Communication,
    all_gather_bytes,
    all_reduce_bytes,
    bubble_frac,
    communication_of,
    ring_bytes_per_s,
)
from kleiber.cost.devices import Device
from kleiber.cost.layouts import BlockShape, Layout
from kleiber.cost.usage import Usage
from kleiber.errors import RecipeError
from kleiber.runs import ParamCount

SHAPE = BlockShape(depth=8, width=64, num_heads=8, num_kv_heads=8, head_dim=8, vocab_size=100)
COUNT = ParamCount(embedding=1000, body=8000, head=1000)
NODE = Device(
    name="card",
    title="",
    peak_flops_per_s={"bf16": 1e12},
    interconnect_bytes_per_s=100e9,
    network_bytes_per_s=10e9,
    devices_per_node=8,
)


def sent(layout: Layout, *, tokens: int = 10, **usage: Any) -> Communication:
    settings = {"batch_size": 8, "precision": "bf16", **usage}
    return communication_of(layout, NODE, COUNT, SHAPE, Usage(**settings), tokens_per_sample=tokens)


@given(st.integers(1, 4096), st.floats(1, 1e12))
def test_an_all_reduce_is_a_scatter_and_a_gather(num_devices: int, num_bytes: float) -> None:
    assert all_reduce_bytes(num_bytes, num_devices) == 2 * all_gather_bytes(num_bytes, num_devices)
    assert all_reduce_bytes(num_bytes, num_devices) < 2 * num_bytes
    assert all_reduce_bytes(num_bytes, 1) == 0


@pytest.mark.parametrize(
    ("num_devices", "stride", "gb_per_s"),
    [
        (8, 1, 100),  # a node: its interconnect
        (2, 4, 100),
        (16, 1, 80),  # two nodes: eight ports of each
        (16, 2, 40),  # every second device: four ports
        (4, 8, 10),  # one device of each node
        (2, 16, 10),
    ],
)
def test_the_slowest_link_of_a_ring(num_devices: int, stride: int, gb_per_s: float) -> None:
    assert ring_bytes_per_s(NODE, num_devices, stride) == pytest.approx(LINK_EFFICIENCY_FRAC * gb_per_s * 1e9)


def test_ports_cannot_be_faster_than_what_feeds_them() -> None:
    fed = NODE.model_copy(update={"network_bytes_per_s": 90e9})
    assert ring_bytes_per_s(fed, 64, 1) == pytest.approx(LINK_EFFICIENCY_FRAC * 100e9)


def test_without_an_interconnect_a_node_cannot_be_timed() -> None:
    bare = NODE.model_copy(update={"interconnect_bytes_per_s": None})
    with pytest.raises(RecipeError, match="card has no interconnect_bytes_per_s"):
        ring_bytes_per_s(bare, 2, 1)
    assert ring_bytes_per_s(bare, 2, 8) == pytest.approx(8e9)


def test_one_device_sends_nothing() -> None:
    alone = sent(Layout())
    assert alone.tensor_bytes == alone.pipeline_bytes == alone.data_bytes == 0
    assert alone.exposed_s(1.0) == 0


def test_tensor_parallelism_sums_four_times_a_block() -> None:
    activation = 2 * 8 * 10 * 64  # bf16, 8 samples of 10 tokens, 64 features
    assert sent(Layout(tp=4)).tensor_bytes == 8 * 4 * 1.5 * activation
    assert sent(Layout(tp=4), is_checkpointed=True).tensor_bytes == 8 * 6 * 1.5 * activation
    assert sent(Layout(tp=4), mode="infer").tensor_bytes == 8 * 2 * 1.5 * activation
    assert sent(Layout(tp=4), accumulation=4).tensor_bytes == 8 * 4 * 1.5 * activation
    assert sent(Layout(tp=4)).tensor_s == pytest.approx(8 * 4 * 1.5 * activation / 80e9)


def test_a_stage_sends_on_and_back() -> None:
    activation = 2 * 8 * 10 * 64
    assert sent(Layout(pp=4), accumulation=8).pipeline_bytes == 2 * activation
    assert sent(Layout(pp=4, tp=2), accumulation=8).pipeline_bytes == activation
    assert sent(Layout(pp=4), mode="infer").pipeline_bytes == activation
    # Stages are neighbours last: two devices of each are in one node, eight are not.
    assert sent(Layout(pp=4)).pipeline_s == pytest.approx(2 * activation / 80e9)
    assert sent(Layout(pp=4, ddp=8)).pipeline_s == pytest.approx(2 * activation / 8 / 8e9)


def test_copies_sum_gradients_once_a_step() -> None:
    assert sent(Layout(ddp=4)).data_bytes == 1.5 * 4 * 10_000
    assert sent(Layout(ddp=4), accumulation=2).data_bytes == 1.5 * 4 * 10_000
    assert sent(Layout(ddp=4), mode="infer").data_bytes == 0


def test_shards_gather_twice_and_scatter_once_a_micro_batch() -> None:
    once = 0.75 * (2 * 2 + 4) * 10_000
    assert sent(Layout(fsdp=4)).data_bytes == once
    assert sent(Layout(fsdp=4), accumulation=2).data_bytes == 2 * once
    assert sent(Layout(fsdp=4, ddp=2)).data_bytes == once + 4 * 10_000 / 4
    assert sent(Layout(fsdp=4), mode="infer").data_bytes == 0.75 * 2 * 10_000


def test_a_pipeline_gathers_once_a_step() -> None:
    """The larger stage of two: four blocks and a table."""
    assert sent(Layout(fsdp=4, pp=2), accumulation=2).data_bytes == 0.75 * (2 + 4) * 5000


def test_all_but_a_block_hides_behind_computation() -> None:
    assert Communication(0, 0, 0, 0, 1, 8.0, num_pieces=8).exposed_s(100.0) == pytest.approx(1.0)
    assert Communication(0, 0, 0, 0, 1, 8.0, num_pieces=8).exposed_s(2.0) == pytest.approx(6.0)
    assert Communication(1, 2.0, 1, 0.5, 0, 0.0, num_pieces=8).exposed_s(100.0) == 2.5


def test_the_bubble() -> None:
    assert bubble_frac(1, 7) == 0
    assert bubble_frac(16, 32) == pytest.approx(15 / 47)
    assert bubble_frac(16, 32, num_chunks=8) == pytest.approx(15 / 271)


def test_models_without_blocks_shard_as_one_piece() -> None:
    whole = communication_of(Layout(fsdp=2), NODE, COUNT, None, Usage(batch_size=8))
    assert (whole.num_pieces, whole.data_bytes) == (1, 0.5 * (2 * 4 + 4) * 10_000)
