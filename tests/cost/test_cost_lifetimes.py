"""Timelines of memory by hand and against a count of every block at every moment."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kleiber.cost.trace.lifetimes import ROLES, Lifetime, Role, held_bytes, kept_bytes, timeline_of

_LAST = 9
_moments = st.integers(0, _LAST)
_blocks = st.builds(
    Lifetime,
    num_bytes=st.integers(0, 200_000),
    role=st.sampled_from(sorted(ROLES)),
    module=st.just(""),
    born=_moments,
    died=st.none() | _moments,
)


@pytest.mark.parametrize(
    ("num_bytes", "held"),
    [
        (0, 0),
        (4, 80),
        (56, 128),
        (57, 144),  # 129 bytes with head and alignment: the next multiple of 16
        (65_535, 65_616),
        (65_536, 69_632),  # a mapping of its own: 17 pages
        (1_048_576, 1_052_672),
    ],
)
def test_a_block_takes_its_head_and_whole_steps(num_bytes: int, held: int) -> None:
    assert held_bytes(num_bytes) == held


def test_every_role_is_described() -> None:
    assert tuple(ROLES) == get_args(Role)


def test_a_block_is_held_from_its_birth_to_the_last_operation_that_had_it() -> None:
    line = timeline_of([Lifetime(10, "activations", "fc", 1, 2)], 0, 3, {}, size=int)
    assert line.total == (0, 10, 10, 0)
    assert line.peak_index == 1


def test_blocks_from_before_and_until_after_count_in_the_whole_window() -> None:
    blocks = [
        Lifetime(1, "weights", "", 0),
        Lifetime(2, "optimizer", "", 3, 100),
        Lifetime(4, "temporary", "", 0, 4),  # went before
        Lifetime(8, "temporary", "", 8, 9),  # came after
    ]
    assert timeline_of(blocks, 5, 7, {}, size=int).total == (3, 3, 3)


def test_extras_add_to_their_role() -> None:
    line = timeline_of(
        [Lifetime(1, "temporary", "", 0)], 0, 1, {"temporary": [5, 0], "libraries": [0, 7]}, size=int
    )
    assert line.by_role["temporary"] == (6, 1)
    assert line.by_role["libraries"] == (0, 7)
    assert line.total == (6, 8)


def test_extras_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        timeline_of([], 0, 3, {"temporary": [1]})


@given(st.lists(_blocks, max_size=12), _moments, _moments)
def test_a_timeline_is_what_a_count_of_every_block_at_every_moment_gives(
    blocks: list[Lifetime], one: int, other: int
) -> None:
    first, last = sorted((one, other))
    line = timeline_of(blocks, first, last, {})
    for role in ROLES:
        assert line.by_role[role] == tuple(
            sum(
                held_bytes(block.num_bytes)
                for block in blocks
                if block.role == role and block.born <= now <= (_LAST if block.died is None else block.died)
            )
            for now in range(first, last + 1)
        )
    assert line.total == tuple(map(sum, zip(*line.by_role.values(), strict=True)))
    assert line.total[line.peak_index] == max(line.total)


def test_small_blocks_that_went_are_kept_and_taken_again() -> None:
    blocks = [
        Lifetime(1000, "temporary", "", 0, 0),
        Lifetime(500, "temporary", "", 2, 2),
        Lifetime(1_000_000, "temporary", "", 0, 0),  # mapped and given back
    ]
    assert kept_bytes(blocks, 0, 2) == (0, 1072, 1072 - 576)


@given(st.lists(_blocks, min_size=1, max_size=12))
def test_with_what_is_kept_small_blocks_take_the_same_at_every_moment(blocks: list[Lifetime]) -> None:
    small = [block for block in blocks if block.num_bytes < 65_536]
    held = timeline_of(small, 0, _LAST, {}).total
    kept = kept_bytes(blocks, 0, _LAST)
    assert {now + more for now, more in zip(held, kept, strict=True)} == {max(held)}
