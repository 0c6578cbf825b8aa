from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from kleiber.data.targets import counted


@given(st.lists(st.lists(st.integers(0, 3), min_size=5, max_size=5), min_size=1, max_size=4))
def test_tokens_up_to_the_first_end_count(rows: list[list[int]]) -> None:
    expected = [[0 not in row[:place] for place in range(5)] for row in rows]
    assert counted(torch.tensor(rows)).tolist() == expected
