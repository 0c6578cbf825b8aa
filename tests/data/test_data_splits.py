from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kleiber.data.source import ArraySamples, Part
from kleiber.data.splits import carved, held_out
from kleiber.errors import DataError
from kleiber.runs.recipe import DataRecipe

GROUPS = st.lists(st.integers(0, 6), min_size=2, max_size=60)


def part_of(num: int, **columns: object) -> Part:
    return Part(ArraySamples({"row": np.arange(num)}), **columns)  # type: ignore[arg-type]


@given(st.lists(st.integers(0, 2), min_size=2, max_size=60), st.floats(0.01, 0.49))
def test_groups_of_one_are_held_out_as_samples_are(labels: list[int], frac: float) -> None:
    num = len(labels)
    alone = held_out(num, frac, labels=np.array(labels))
    grouped = held_out(num, frac, labels=np.array(labels), groups=np.arange(num)[::-1].copy())
    for mine, theirs in zip(grouped, alone, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@given(GROUPS, st.floats(0.01, 0.49))
def test_a_group_is_held_out_whole_or_not_at_all(groups: list[int], frac: float) -> None:
    numbers = np.array(groups)
    stay, held = held_out(len(groups), frac, groups=numbers)
    assert sorted([*stay.tolist(), *held.tolist()]) == list(range(len(groups)))
    assert not set(numbers[stay].tolist()) & set(numbers[held].tolist())
    if len(set(groups)) > 1:
        assert len(stay)
        assert len(held)
        smallest = np.unique(numbers, return_counts=True)[1].min()
        assert len(held) <= max(round(frac * len(groups)), smallest)


def test_the_smallest_group_is_held_out_when_none_fits() -> None:
    _, held = held_out(11, 0.1, groups=np.array([0] * 6 + [1] * 5))
    assert held.tolist() == [6, 7, 8, 9, 10]


def test_each_class_gives_its_share_in_groups() -> None:
    labels = np.repeat([0, 1], 20)
    _, held = held_out(40, 0.2, labels=labels, groups=np.arange(40) // 2)
    assert np.bincount(labels[held]).tolist() == [4, 4]


def test_what_the_source_holds_out_stays() -> None:
    parts = {"train": part_of(10), "test": part_of(3), "val": part_of(2)}
    assert carved(parts, DataRecipe()) == parts
    with pytest.raises(
        DataError, match=r"data\.test_frac has no effect: 'stdlib' has a test split of its own"
    ):
        carved(parts, DataRecipe(test_frac=0.1))
    assert carved(parts, DataRecipe(test_frac=0.1), is_carved=True) == parts


def test_val_and_test_are_carved_out_of_train() -> None:
    parts = carved({"train": part_of(100)}, DataRecipe(val_frac=0.1, test_frac=0.2))
    rows = {name: part.samples.gather(np.arange(len(part)))["row"].tolist() for name, part in parts.items()}
    assert {name: len(part) for name, part in rows.items()} == {"train": 72, "test": 20, "val": 8}
    assert sorted(row for part in rows.values() for row in part) == list(range(100))


@pytest.mark.parametrize("columns", [{"groups": np.zeros(5, np.int64)}, {"labels": np.arange(5)}])
def test_what_cannot_be_split_is_refused(columns: dict[str, object]) -> None:
    with pytest.raises(
        DataError, match="cannot be split into train and val: its 5 training samples are near-duplicates"
    ):
        carved({"train": part_of(5, **columns)}, DataRecipe())
