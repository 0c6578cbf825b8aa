"""Layouts: what is typed, what divides."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kleiber.cost.layouts import (
    AXES,
    BlockShape,
    Layout,
    check_layout,
    enumerate_layouts,
    parse_layout,
    rank_usage,
)
from kleiber.cost.usage import Usage
from kleiber.errors import RecipeError
from kleiber.models.subject import BlockShape as ReExported

LLAMA_8B = BlockShape(depth=32, width=4096, num_heads=32, num_kv_heads=8, head_dim=128, vocab_size=128256)
BATCH = Usage(batch_size=64, accumulation=2)


def test_the_shape_of_blocks_is_one_class() -> None:
    assert ReExported is BlockShape


def test_a_layout_is_read_and_written() -> None:
    layout = parse_layout(" tp=2, pp=4,fsdp=2 ")
    assert layout == Layout(tp=2, pp=4, fsdp=2)
    assert (layout.num_devices, layout.num_ranks, layout.name) == (16, 2, "fsdp=2,tp=2,pp=4")
    assert Layout().name == "ddp=1"


@given(st.fixed_dictionaries({axis: st.integers(1, 1000) for axis in AXES}))
def test_reading_turns_writing_around(sizes: dict[str, int]) -> None:
    layout = Layout(**sizes)
    assert parse_layout(layout.name) == layout
    assert layout.num_devices == math.prod(sizes.values())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tpp=2", r"'tpp' is not such a key. Did you mean 'tp'\?"),
        ("", r"'' is not such a key"),
        ("dp=8", r"Did you mean 'ddp'\?"),
        ("tp=2,tp=4", r"names 'tp' twice"),
        ("tp=2.5", r"tp must be a whole number of devices .* Got '2.5'"),
        ("tp=0", r"from 1 to 1,000,000. Got '0'"),
        ("tp=-1", r"Got '-1'"),
        ("tp", r"Got ''"),
        ("tp=9999999", r"Got '9999999'"),
        ("fsdp=8,", r"'' is not such a key"),
    ],
)
def test_what_is_no_layout(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        parse_layout(text)
    parse_layout(caught.value.hint.removeprefix("--parallel "))  # type: ignore[union-attr] # the hint works


@pytest.mark.parametrize(
    ("text", "num_devices", "message"),
    [
        ("tp=2,ddp=2", 8, r"2 x 2 = 4 devices, but there are 8"),
        ("ddp=1", 8, r"over 1 = 1 devices, but there are 8"),
        ("tp=3", None, r"tp=3 does not divide the 32 query heads"),
        ("tp=16", None, r"tp=16 does not divide the 8 key and value heads"),
        ("pp=5", None, r"pp=5 does not divide the 32 blocks \(nor 34,"),
        ("pp=64", None, r"pp=64 stages are more than the 32 blocks"),
        ("ddp=3", None, r"ddp x fsdp = 3 does not divide the batch of 64 samples"),
        (
            "ddp=64",
            None,
            r"leaves none for a micro-batch: ddp x fsdp = 64 devices share it in 2 micro-batches each",
        ),
        ("fsdp=2,ddp=2,tp=2,pp=2", 16, None),
        ("pp=17", None, None),  # 34 places for 32 blocks, embedding and head
    ],
)
def test_what_does_not_divide(text: str, num_devices: int | None, message: str | None) -> None:
    if message is None:
        check_layout(parse_layout(text), LLAMA_8B, BATCH, num_devices)
        return
    with pytest.raises(RecipeError, match=message):
        check_layout(parse_layout(text), LLAMA_8B, BATCH, num_devices)


def test_a_width_that_does_not_divide() -> None:
    odd = BlockShape(depth=2, width=10, num_heads=4, num_kv_heads=4, head_dim=4, vocab_size=8)
    with pytest.raises(RecipeError, match=r"tp=4 does not divide the 10 features of the width") as caught:
        check_layout(Layout(tp=4), odd, BATCH)
    assert caught.value.hint == "--parallel tp=2"


def test_micro_batches_that_do_not_divide_a_share() -> None:
    usage = Usage(batch_size=12, accumulation=4)
    with pytest.raises(
        RecipeError, match=r"4 micro-batches do not divide the 6 samples of one of ddp x fsdp = 2"
    ) as caught:
        check_layout(Layout(fsdp=2), None, usage)
    assert caught.value.hint == "--batch 16"


@pytest.mark.parametrize("layout", [Layout(tp=2), Layout(pp=2)])
def test_models_without_blocks_are_not_cut(layout: Layout) -> None:
    with pytest.raises(
        RecipeError, match=r"split the blocks of a Transformer, and this model is not known to have"
    ):
        check_layout(layout, None, BATCH)
    check_layout(Layout(fsdp=8, ddp=2), None, BATCH)


def test_a_share_of_the_batch() -> None:
    assert rank_usage(BATCH, Layout(ddp=2, fsdp=4, tp=8)) == Usage(batch_size=8, accumulation=2)


@given(st.sampled_from([1, 2, 6, 8, 12, 16]), st.sampled_from([LLAMA_8B, None]))
def test_all_that_divide_are_listed_once(num_devices: int, blocks: BlockShape | None) -> None:
    listed = enumerate_layouts(num_devices, blocks, BATCH)
    assert len({layout.name for layout in listed}) == len(listed)
    for layout in listed:
        check_layout(layout, blocks, BATCH, num_devices)
    sizes = [n for n in range(1, num_devices + 1) if num_devices % n == 0]
    others = [
        layout
        for ddp in sizes
        for fsdp in sizes
        for tp in sizes
        for pp in sizes
        if (layout := Layout(ddp=ddp, fsdp=fsdp, tp=tp, pp=pp)).num_devices == num_devices
        and layout not in listed
    ]
    for layout in others:
        with pytest.raises(RecipeError):
            check_layout(layout, blocks, BATCH, num_devices)
