"""Masks: as many zeros as asked, where the scores are least."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kleiber.compress.prune.masks import keep_by_pattern, keep_globally, keep_top


def scores_of(rows: int, columns: int, seed: int) -> Tensor:
    return torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed))


SIZES = st.tuples(st.integers(1, 7), st.integers(1, 17), st.integers(0, 2**31))


@given(SIZES, st.floats(0, 1))
def test_exactly_the_share_goes_and_nothing_kept_is_less_than_what_went(
    sizes: tuple[int, int, int], ratio: float
) -> None:
    scores_RC = scores_of(*sizes)
    for is_by_row in (False, True):
        is_kept_RC = keep_top(scores_RC, ratio, is_by_row=is_by_row)
        for part, kept in zip(scores_RC, is_kept_RC, strict=True) if is_by_row else [(scores_RC, is_kept_RC)]:
            assert int((~kept).sum()) == round(ratio * part.numel())
            if kept.any() and not kept.all():
                assert part[kept].min() >= part[~kept].max()


@given(SIZES, st.sampled_from([(2, 4), (1, 4), (4, 8), (1, 2), (3, 5)]))
def test_of_every_group_the_n_greatest_are_kept(
    sizes: tuple[int, int, int], pattern: tuple[int, int]
) -> None:
    scores_RC = scores_of(*sizes)
    is_kept_RC = keep_by_pattern(scores_RC, pattern)
    for part_RM, kept_RM in zip(scores_RC.split(pattern[1], 1), is_kept_RC.split(pattern[1], 1), strict=True):
        for part, kept in zip(part_RM, kept_RM, strict=True):
            assert int(kept.sum()) == min(pattern[0], len(part))
            assert set(part[kept].tolist()) == set(sorted(part.tolist())[-pattern[0] :])


@given(st.lists(SIZES, min_size=1, max_size=4), st.floats(0, 1))
def test_all_weights_together_lose_the_share(sizes: list[tuple[int, int, int]], ratio: float) -> None:
    scores = {str(number): scores_of(*one) for number, one in enumerate(sizes)}
    masks = keep_globally(scores, ratio)
    assert {name: one.shape for name, one in masks.items()} == {
        name: one.shape for name, one in scores.items()
    }
    went = torch.cat([one[~masks[name]] for name, one in scores.items()])
    stayed = torch.cat([one[masks[name]] for name, one in scores.items()])
    assert len(went) == round(ratio * (len(went) + len(stayed)))
    if len(went) and len(stayed):
        assert stayed.min() >= went.max()


def test_by_hand() -> None:
    scores_RC = torch.tensor([[5.0, 1.0, 2.0, 6.0], [9.0, 8.0, 7.0, 0.0]])
    assert keep_top(scores_RC, 0.5).int().tolist() == [[0, 0, 0, 1], [1, 1, 1, 0]]
    assert keep_top(scores_RC, 0.5, is_by_row=True).int().tolist() == [[1, 0, 0, 1], [1, 1, 0, 0]]
    assert keep_by_pattern(scores_RC, (1, 2)).int().tolist() == [[1, 0, 0, 1], [1, 0, 1, 0]]
    masks = keep_globally({"a": scores_RC[:1], "b": scores_RC[1:]}, 0.25)
    assert [masks[name].int().tolist() for name in ("a", "b")] == [[[1, 0, 1, 1]], [[1, 1, 1, 0]]]


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_nothing_and_all(ratio: float) -> None:
    assert keep_top(torch.rand(3, 4), ratio).all() == (ratio == 0)
