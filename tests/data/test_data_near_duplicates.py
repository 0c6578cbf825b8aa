from __future__ import annotations

from itertools import combinations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kleiber.data.near_duplicates import MAX_OWNERS, MIN_SHARED_FRAC, group_near_duplicates


def hashes(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.uint64)


def test_sharing_is_transitive_and_order_is_kept() -> None:
    chain = [hashes(9), hashes(1, 2), hashes(7), hashes(2, 3), hashes(3, 4)]
    assert group_near_duplicates(chain) == [[0], [1, 3, 4], [2]]


def test_a_window_shared_by_long_texts_is_not_enough() -> None:
    first, second = np.arange(1000, dtype=np.uint64), np.arange(2000, 3000, dtype=np.uint64)
    second[:4] = first[:4]  # 0.4% of either
    assert group_near_duplicates([first, second]) == [[0], [1]]
    second[4] = first[4]
    assert group_near_duplicates([first, second]) == [[0, 1]]


def test_boiler_plate_joins_nobody() -> None:
    licence = 12345
    texts = [hashes(licence, number) for number in range(MAX_OWNERS)]
    assert len(group_near_duplicates(texts)) == 1
    assert len(group_near_duplicates([*texts, hashes(licence, 99)])) == MAX_OWNERS + 1


def test_nothing_makes_no_group() -> None:
    assert group_near_duplicates([]) == []
    assert group_near_duplicates([hashes(), hashes()]) == [[0], [1]]


@given(st.lists(st.lists(st.integers(0, 30), max_size=8), max_size=8))
def test_groups_are_the_connected_components(texts: list[list[int]]) -> None:
    sets = [set(text) for text in texts]
    component = list(range(len(sets)))
    for _ in sets:
        for i, j in combinations(range(len(sets)), 2):
            if sets[i] & sets[j] and len(sets[i] & sets[j]) >= MIN_SHARED_FRAC * min(
                len(texts[i]), len(texts[j])
            ):
                component[i] = component[j] = min(component[i], component[j])
    expected = {tuple(i for i, c in enumerate(component) if c == root) for root in component}
    assert {tuple(group) for group in group_near_duplicates([hashes(*text) for text in texts])} == expected
