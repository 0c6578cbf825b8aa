"""SparseGPT: the weights that are kept make up for those that go."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kleiber.compress.prune.masks import keep_by_pattern, keep_top
from kleiber.compress.prune.sparsegpt import inverse_factor, sparsegpt


def correlated(columns: int, seed: int, rows: int = 400) -> Tensor:
    """Return the mean of x x^T of inputs that hang together and of which some are much larger than others."""
    generator = torch.Generator().manual_seed(seed)
    mixed_CC = torch.randn(columns, columns, generator=generator)
    sizes_C = torch.exp(torch.randn(columns, generator=generator))
    x_NC = torch.randn(rows, columns, generator=generator) @ mixed_CC * sizes_C
    return x_NC.T @ x_NC / rows


def error(W_RC: Tensor, new_RC: Tensor, H_CC: Tensor) -> float:
    """Return the mean squared error of the outputs, summed over rows."""
    gone_RC = (W_RC - new_RC).double()
    return float((gone_RC @ H_CC.double() * gone_RC).sum())


def test_two_weights_by_hand() -> None:
    # w1 goes: 4 x (1 - 0.5^2) < 9 x 1. w2 takes up what of x1 can be seen in x2: 3 + 0.5 x 2.
    H_CC = torch.tensor([[1.0, 0.5], [0.5, 1.0]])
    W_RC, is_kept_RC = sparsegpt(torch.tensor([[2.0, 3.0]]), H_CC, ratio=0.5, damping_frac=1e-9)
    assert is_kept_RC.tolist() == [[False, True]]
    assert W_RC.tolist() == [[0.0, pytest.approx(4.0, abs=1e-5)]]


def test_what_is_kept_after_the_first_column_is_the_least_squares_answer() -> None:
    H_CC = correlated(6, seed=1)
    W_RC = torch.randn(1, 6, generator=torch.Generator().manual_seed(0))
    was_kept_RC = torch.tensor([[False, *[True] * 5]])
    new_RC, is_kept_RC = sparsegpt(W_RC, H_CC, ratio=1 / 6, was_kept_RC=was_kept_RC, damping_frac=1e-9)
    assert torch.equal(is_kept_RC, was_kept_RC)
    # The five that are left, solved for outright: H_22 w' = (H w) of those five.
    expected_C = torch.linalg.solve(H_CC[1:, 1:].double(), (H_CC @ W_RC[0])[1:].double())
    assert torch.allclose(new_RC[0, 1:].double(), expected_C, rtol=1e-3, atol=1e-4)


def test_inputs_that_do_not_hang_together_leave_the_rest_as_it_is() -> None:
    h_C = torch.tensor([4.0, 1.0, 1.0, 9.0])
    W_RC = torch.tensor([[1.0, 1.5, -3.0, 0.6], [0.1, 5.0, 0.2, 0.3]])
    new_RC, is_kept_RC = sparsegpt(W_RC, h_C.diag(), ratio=0.5, damping_frac=1e-9)
    # w^2 h: 4, 2.25, 9, 3.24 and 0.04, 25, 0.04, 0.81
    assert is_kept_RC.int().tolist() == [[1, 0, 1, 1], [0, 1, 0, 0]]
    assert torch.allclose(new_RC, W_RC * is_kept_RC)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("pattern", [None, (2, 4)])
def test_outputs_change_less_than_by_wanda_and_by_magnitude(
    seed: int, pattern: tuple[int, int] | None
) -> None:
    W_RC = torch.randn(24, 160, generator=torch.Generator().manual_seed(seed))
    H_CC = correlated(160, seed)
    norms_C = H_CC.diagonal().sqrt()
    if pattern is None:
        masks = [keep_top(W_RC.abs(), 0.5), keep_top(W_RC.abs() * norms_C, 0.5, is_by_row=True)]
        new_RC, is_kept_RC = sparsegpt(W_RC, H_CC, ratio=0.5)
    else:
        masks = [keep_by_pattern(scores, pattern) for scores in (W_RC.abs(), W_RC.abs() * norms_C)]
        new_RC, is_kept_RC = sparsegpt(W_RC, H_CC, pattern=pattern)
    magnitude, wanda = (error(W_RC, W_RC * mask, H_CC) for mask in masks)
    masked = error(W_RC, W_RC * is_kept_RC, H_CC)
    solved = error(W_RC, new_RC, H_CC)
    assert solved < 0.8 * wanda < 0.8 * magnitude
    assert solved < 0.8 * masked  # its own mask without making up for it


@given(
    st.integers(1, 6),
    st.sampled_from([1, 5, 128, 131]),
    st.floats(0.05, 0.95),
    st.sampled_from([None, (2, 4), (1, 3)]),
    st.integers(0, 99),
)
def test_zeros_are_where_the_mask_says_as_many_as_asked_and_what_was_gone_stays_gone(
    rows: int, columns: int, ratio: float, pattern: tuple[int, int] | None, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    was_kept_RC = torch.rand(rows, columns, generator=generator) > 0.2
    W_RC = torch.randn(rows, columns, generator=generator) * was_kept_RC
    new_RC, is_kept_RC = sparsegpt(
        W_RC,
        correlated(columns, seed, rows=20),  # fewer rows than columns: H is singular
        ratio=None if pattern else ratio,
        pattern=pattern,
        was_kept_RC=was_kept_RC,
    )
    assert bool(new_RC.isfinite().all())
    assert not bool(new_RC[~is_kept_RC].any())
    assert not bool((is_kept_RC & ~was_kept_RC).any())
    if pattern:
        for part in is_kept_RC.split(pattern[1], 1):
            assert int(part.sum(1).max()) <= pattern[0]
    else:
        blocks = zip(is_kept_RC.split(128, 1), was_kept_RC.split(128, 1), strict=True)
        for part, was in blocks:
            assert int((~part).sum()) == max(round(ratio * part.numel()), int((~was).sum()))


def test_a_layer_that_saw_only_zeros_is_pruned_by_size() -> None:
    W_RC = torch.tensor([[3.0, -1.0, 2.0, 0.5]])
    new_RC, is_kept_RC = sparsegpt(W_RC, torch.zeros(4, 4), ratio=0.5)
    assert is_kept_RC.int().tolist() == [[1, 0, 1, 0]]
    assert torch.equal(new_RC, W_RC * is_kept_RC)


def test_the_factor_is_one_of_the_inverse() -> None:
    H_CC = correlated(5, seed=3)
    U_CC = inverse_factor(H_CC, damping_frac=0.01).double()
    damped_CC = H_CC.double() + 0.01 * H_CC.diagonal().mean().double() * torch.eye(5, dtype=torch.float64)
    assert torch.allclose(U_CC.T @ U_CC @ damped_CC, torch.eye(5, dtype=torch.float64), atol=1e-4)
    assert torch.equal(U_CC, U_CC.triu())


def test_weights_are_left_as_they_were() -> None:
    W_RC = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    before = W_RC.clone()
    sparsegpt(W_RC, correlated(8, 0), ratio=0.5)
    assert torch.equal(W_RC, before)
