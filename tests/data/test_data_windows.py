from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kleiber.data.windows import windows_of, without_windows

LINES = st.lists(st.sampled_from(["a", "b", " a", "", "c "]), max_size=14).map("\n".join)


def reference_windows(text: str) -> list[tuple[str, ...]]:
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    return [tuple(lines[i : i + 5]) for i in range(max(1, len(lines) - 4))] if lines else []


@given(LINES, LINES)
def test_hashes_agree_with_tuples_of_lines(first: str, second: str) -> None:
    hashes = [*windows_of(first).tolist(), *windows_of(second).tolist()]
    tuples = reference_windows(first) + reference_windows(second)
    assert len(hashes) == len(tuples)
    assert len(set(hashes)) == len(set(tuples)) == len(set(zip(hashes, tuples, strict=True)))


@given(LINES, LINES)
def test_without_leaves_no_window_of_the_other(text: str, other: str) -> None:
    left, num_lines = without_windows(text, np.sort(windows_of(other)))
    assert set(reference_windows(left)).isdisjoint(reference_windows(other))
    lines, kept = ([line for line in part.split("\n") if line.strip()] for part in (text, left))
    assert len(lines) - len(kept) == num_lines
    is_apart = set(reference_windows(text)).isdisjoint(reference_windows(other))
    assert (left == text) == is_apart


def test_without_cuts_the_lines_of_shared_windows_and_no_others() -> None:
    licence = "L1\nL2\n\nL3\nL4\nL5\nL6"
    text, num_lines = without_windows(f"{licence}\n\nimport a\nL1\n", np.sort(windows_of(licence)))
    assert (text, num_lines) == ("\n\nimport a\nL1\n", 6)


def test_without_leaves_a_text_that_shares_nothing() -> None:
    assert without_windows("a\nb\n\n", windows_of("b\na")) == ("a\nb\n\n", 0)
