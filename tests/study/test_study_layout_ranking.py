from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kleiber.cost.layouts import BlockShape, Layout, check_layout, enumerate_layouts, parse_layout
from kleiber.cost.usage import Usage
from kleiber.study.layout_ranking import RankedLayout, every_layout, rank_layouts

USAGE = Usage(batch_size=64, precision="bf16")
BLOCKS = BlockShape(depth=6, width=40 * 64, num_heads=40, num_kv_heads=40, head_dim=64, vocab_size=1000)


def ranked(limit_bytes: float | None = 40e9) -> tuple[list[RankedLayout], list[str]]:
    asked: list[str] = []

    def time_of(layout: Layout) -> float:
        asked.append(layout.name)
        return {"ddp=16": 9.0, "tp=2": 3.0, "fsdp=4": 1.0, "tp=8": 2.0}[layout.name]

    found = rank_layouts(
        [parse_layout(text) for text in ("ddp=16", "tp=2", "fsdp=4", "tp=16", "pp=7", "tp=8")],
        check=lambda layout: check_layout(layout, BLOCKS, USAGE),
        memory_of=lambda layout: 93e9 / (layout.fsdp * layout.tp),
        time_of=time_of,
        limit_bytes=limit_bytes,
    )
    return list(found), asked


def test_what_fits_comes_first_by_time_then_what_lacks_least_then_what_does_not_divide() -> None:
    found, _ = ranked()
    assert [one.layout.name for one in found] == ["fsdp=4", "tp=8", "tp=2", "ddp=16", "tp=16", "pp=7"]
    assert [one.fits for one in found] == [True, True, False, False, False, False]
    assert [one.step_time_s for one in found[:3]] == [1.0, 2.0, None]


def test_each_failing_one_says_why() -> None:
    found, _ = ranked()
    assert [one.why_not for one in found] == [
        None,
        None,
        "needs 46.5 GB of 40.0 GB a device",
        "needs 93.0 GB of 40.0 GB a device",
        "tp=16 does not divide the 40 query heads",
        "pp=7 stages are more than the 6 blocks",
    ]


def test_time_is_predicted_only_for_what_fits() -> None:
    assert ranked()[1] == ["fsdp=4", "tp=8"]


def test_without_a_memory_everything_that_divides_fits() -> None:
    assert [one.layout.name for one in ranked(None)[0] if one.fits] == ["fsdp=4", "tp=8", "tp=2", "ddp=16"]


@given(st.integers(1, 256))
def test_layouts_take_all_devices_and_none_comes_twice(num_devices) -> None:
    found = every_layout(num_devices)
    assert len({layout.name for layout in found}) == len(found)
    assert {layout.num_devices for layout in found} == {num_devices}


@pytest.mark.parametrize(("num_devices", "num_layouts"), [(1, 1), (8, 20), (7, 4), (1024, 286)])
def test_no_layout_is_missing(num_devices, num_layouts) -> None:
    assert len(every_layout(num_devices)) == num_layouts


def test_those_that_divide_are_the_enumerated_ones() -> None:
    found = rank_layouts(
        every_layout(8),
        check=lambda layout: check_layout(layout, BLOCKS, USAGE, 8),
        memory_of=lambda layout: 1.0,
        time_of=lambda layout: 1.0,
        limit_bytes=None,
    )
    divide = {one.layout.name for one in found if one.fits}
    assert divide == {layout.name for layout in enumerate_layouts(8, BLOCKS, USAGE)}
