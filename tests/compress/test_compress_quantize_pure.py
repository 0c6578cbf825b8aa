"""The quantizers as functions of a weight: values by hand, bounds, and what each is to be better at.

Legend: R rows, C columns.
"""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kleiber.compress.quantize.awq import channel_scales
from kleiber.compress.quantize.clipping import (
    least_error_range,
    least_output_error_range,
    percentile_range,
    range_of,
)
from kleiber.compress.quantize.gptq import gptq
from kleiber.compress.quantize.hqq import half_quadratic
from kleiber.models.stored.grid import Grid, grouped, output_error, scale_and_zero, spread, storable
from kleiber.models.stored.rounding import RangeOf, min_max_range, round_to_nearest

GRIDS = st.builds(
    Grid,
    num_bits=st.integers(2, 8),
    group_size=st.none() | st.integers(1, 40),
    is_symmetric=st.booleans(),
)


def weight(seed: int, rows: int = 16, columns: int = 48, *, size: float = 0.1) -> Tensor:
    """Return a weight with a few large entries, as trained ones have."""
    generator = torch.Generator().manual_seed(seed)
    W_RC = torch.randn(rows, columns, generator=generator) * size
    return W_RC * (1 + 4 * (torch.rand(rows, columns, generator=generator) < 0.02))


def correlated_inputs(seed: int, columns: int = 48, *, num: int = 512) -> Tensor:
    """Return inputs [N, C] that lie near a few directions, with a few large channels."""
    generator = torch.Generator().manual_seed(seed)
    x_NC = torch.randn(num, columns // 4, generator=generator) @ torch.randn(
        columns // 4, columns, generator=generator
    )
    x_NC += 0.2 * torch.randn(num, columns, generator=generator)
    return x_NC * (1 + 8 * (torch.arange(columns) % 16 == 3))


def second_moments(x_NC: Tensor) -> Tensor:
    return x_NC.T @ x_NC / len(x_NC)


def is_fp16(scale: Tensor) -> bool:
    return bool((scale.half().float() == scale)[scale >= 2**-14].all())


# Grids


def test_scale_and_zero_by_hand() -> None:
    low, high = torch.tensor([[-1.0, 0.5]]), torch.tensor([[3.0, 7.5]])
    scale, zero = scale_and_zero(low, high, Grid(4))
    assert scale.tolist() == [[storable(torch.tensor(0.4)).item(), 1.0]]
    assert zero.tolist() == [[8, 8]]
    scale, zero = scale_and_zero(low, high, Grid(2, is_symmetric=False))
    assert zero.tolist() == [[1, 0]]  # 0 is within: the second reaches from 0 to 7.5
    assert scale.tolist() == [[storable(torch.tensor(4 / 3)).item(), 2.5]]


@given(st.floats(2.0**-14, 60000.0, width=32))
def test_a_scale_is_rounded_up_to_the_next_that_fp16_holds(number: float) -> None:
    scale = storable(torch.tensor(number))
    assert is_fp16(scale)
    assert number <= scale.item() <= number * (1 + 2**-10)


def test_scales_beyond_fp16_stay_as_they_are() -> None:
    odd = torch.tensor([1.2345678e-6, 1.2345678e6, 1e-42])
    assert storable(odd)[:2].tolist() == odd[:2].tolist()
    assert storable(odd)[2] == torch.finfo(torch.float32).tiny


def test_the_last_group_may_be_shorter_and_the_form_reads_it_so() -> None:
    W_RC = weight(0, 3, 172)
    form = round_to_nearest(W_RC, Grid(4, group_size=64))
    assert form.scale_RG.shape == (3, 3)
    assert form.group_size == 64
    for g, columns in enumerate((slice(0, 64), slice(64, 128), slice(128, 172))):
        alone = round_to_nearest(W_RC[:, columns], Grid(4))
        assert torch.equal(alone.scale_RG[:, 0], form.scale_RG[:, g])
        assert torch.equal(alone.dense(), form.dense()[:, columns])


# Round-to-nearest


@given(GRIDS, st.integers(0, 1000), st.integers(1, 70), st.floats(1e-6, 1e3))
def test_no_weight_is_missed_by_more_than_half_a_step(
    grid: Grid, seed: int, columns: int, size: float
) -> None:
    W_RC = weight(seed, 4, columns, size=size)
    W_RC[:, ::5] = 0.0
    form = round_to_nearest(W_RC, grid)
    steps = spread(form.scale_RG, columns, grid.size(columns))
    assert ((form.dense() - W_RC).abs() <= steps * (0.5 + 1e-4)).all()
    assert (form.dense()[:, ::5] == 0).all()
    assert is_fp16(form.scale_RG)
    assert form.codes_RC.max() <= 2**grid.num_bits - 1


def test_codes_by_hand() -> None:
    form = round_to_nearest(torch.tensor([[-7.5, -1.0, 0.0, 0.4, 0.6, 7.5]]), Grid(4))
    assert form.codes_RC.tolist() == [[0, 7, 8, 8, 9, 15]]
    assert form.zero_RG.tolist() == [[8]]


def test_a_weight_of_zeros_stays_one() -> None:
    for method in (round_to_nearest, half_quadratic):
        form = method(torch.zeros(2, 5), Grid(3, group_size=2, is_symmetric=False))
        assert (form.dense() == 0).all()
        assert (form.scale_RG == 1).all()


# Ranges


def test_percentiles_are_those_of_torch() -> None:
    W_RC = weight(1, 5, 37)
    low, high = percentile_range(W_RC, Grid(4, group_size=10), percentile=80.0)
    for g in range(4):
        part = W_RC[:, g * 10 : (g + 1) * 10]
        assert torch.allclose(low[:, g], part.quantile(0.1, 1))
        assert torch.allclose(high[:, g], part.quantile(0.9, 1))


@pytest.mark.parametrize("num_bits", [2, 3, 4])
def test_the_least_error_is_below_that_of_the_whole_range(num_bits: int) -> None:
    W_RC, grid = weight(2, 8, 256), Grid(num_bits)
    errors = {
        clip: (round_to_nearest(W_RC, grid, range_of(clip, 99.9)).dense() - W_RC).square().sum().item()
        for clip in ("minmax", "percentile", "mse")
    }
    assert errors["mse"] < 0.8 * errors["minmax"]
    assert errors["mse"] < errors["percentile"]


def test_the_range_of_a_normal_variable_in_two_bits() -> None:
    # Max 1960: the best uniform quantizer of 4 levels has a step of 0.996 deviations, so reaches 1.49 of them.
    W_RC = torch.randn(1, 4096, generator=torch.Generator().manual_seed(0))
    low, high = least_error_range(W_RC, Grid(2))
    assert max(-low.item(), high.item()) == pytest.approx(1.49, abs=0.12)


def test_the_range_for_outputs_beats_that_for_weights_on_outputs() -> None:
    W_RC, H_CC, grid = weight(3, 16, 60), second_moments(correlated_inputs(3, 60)), Grid(3, group_size=20)

    def error_of_groups(clip: RangeOf) -> float:
        miss_RGS = grouped(round_to_nearest(W_RC, grid, clip).dense() - W_RC, 20)
        blocks = [H_CC[first : first + 20, first : first + 20] for first in (0, 20, 40)]
        return sum(output_error(torch.zeros(16, 20), miss_RGS[:, g], blocks[g]) for g in range(3))

    weighted, plain = partial(least_output_error_range, H_CC=H_CC), least_error_range
    assert error_of_groups(weighted) < 0.98 * error_of_groups(plain)


# GPTQ


def test_gptq_by_hand() -> None:
    # Both inputs are the same: what the first weight loses the second makes up. Steps of 1: 0.4 -> 0, 2.3 + 0.4 -> 3.
    W_RC, H_CC = torch.tensor([[0.4, 2.3, -1.5]]), torch.ones(3, 3)
    H_CC[2] = H_CC[:, 2] = torch.tensor([0.0, 0.0, 1.0])
    grid = Grid(2, is_symmetric=False)  # from -1.5 to 2.3: 1.267 a step
    form = gptq(
        W_RC, H_CC, grid, clip=lambda W, g: (torch.tensor([[-1.0]]), torch.tensor([[2.0]])), damping_frac=1e-6
    )
    assert form.dense().tolist() == [[0.0, 2.0, -1.0]]
    wide = gptq(
        W_RC,
        H_CC,
        Grid(4),
        clip=lambda W, g: (torch.tensor([[-7.5]]), torch.tensor([[7.5]])),
        damping_frac=1e-6,
    )
    assert wide.dense().tolist() == [[0.0, 3.0, -2.0]]


@pytest.mark.parametrize("has_act_order", [True, False])
@pytest.mark.parametrize("group_size", [None, 16, 20])
@pytest.mark.parametrize("num_bits", [2, 3, 4])
def test_gptq_changes_outputs_less_than_rounding(
    num_bits: int, group_size: int | None, has_act_order: bool
) -> None:
    W_RC, H_CC = weight(5), second_moments(correlated_inputs(5))
    grid = Grid(num_bits, group_size, is_symmetric=False)
    rounded = output_error(W_RC, round_to_nearest(W_RC, grid).dense(), H_CC)
    corrected = output_error(W_RC, gptq(W_RC, H_CC, grid, has_act_order=has_act_order).dense(), H_CC)
    assert corrected < 0.5 * rounded


def test_gptq_with_independent_inputs_is_rounding() -> None:
    W_RC, grid = weight(6), Grid(3, group_size=16, is_symmetric=False)
    for has_act_order in (True, False):
        form = gptq(W_RC, torch.diag(torch.rand(48) + 0.1), grid, has_act_order=has_act_order)
        assert torch.equal(form.dense(), round_to_nearest(W_RC, grid).dense())


def test_gptq_blocks_do_not_change_what_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    # fp64: a sum in another order does not cross the middle between two codes
    W_RC, H_CC = weight(7, 4, 64).double(), second_moments(correlated_inputs(7, 64)).double()
    grid = Grid(4)
    whole = gptq(W_RC, H_CC, grid, has_act_order=False).codes_RC
    monkeypatch.setattr("kleiber.compress.quantize.gptq._BLOCK", 10)
    assert torch.equal(gptq(W_RC, H_CC, grid, has_act_order=False).codes_RC, whole)


@pytest.mark.parametrize("has_act_order", [True, False])
def test_gptq_keeps_pruned_weights_at_zero_and_makes_up_for_them(has_act_order: bool) -> None:
    W_RC, H_CC = weight(8), second_moments(correlated_inputs(8))
    is_kept_RC = torch.rand(W_RC.shape, generator=torch.Generator().manual_seed(1)) > 0.5
    W_RC = W_RC * is_kept_RC
    grid = Grid(3, group_size=16, is_symmetric=False)
    form = gptq(W_RC, H_CC, grid, is_kept_RC=is_kept_RC, has_act_order=has_act_order)
    assert (form.dense()[~is_kept_RC] == 0).all()
    assert output_error(W_RC, form.dense(), H_CC) < output_error(
        W_RC, round_to_nearest(W_RC, grid).dense(), H_CC
    )


def test_gptq_of_inputs_that_were_never_seen() -> None:
    W_RC, grid = weight(9), Grid(4)
    assert torch.equal(gptq(W_RC, torch.zeros(48, 48), grid).dense(), round_to_nearest(W_RC, grid).dense())
    H_CC = second_moments(correlated_inputs(9))
    H_CC[5] = H_CC[:, 5] = 0.0
    assert torch.equal(gptq(W_RC, H_CC, grid).dense()[:, 5], round_to_nearest(W_RC, grid).dense()[:, 5])


# AWQ


def test_awq_scales_lower_the_error_of_outputs() -> None:
    H_CC = second_moments(correlated_inputs(10))
    weights = [(weight(seed, 24), Grid(3, group_size=16, is_symmetric=False)) for seed in (10, 11)]
    scale_C = channel_scales(weights, H_CC)
    assert scale_C is not None
    plain = sum(output_error(W, round_to_nearest(W, grid).dense(), H_CC) for W, grid in weights)
    scaled = sum(
        output_error(W, round_to_nearest(W * scale_C, grid).dense() / scale_C, H_CC) for W, grid in weights
    )
    assert scaled < 0.9 * plain
    assert scale_C.argsort(descending=True)[:3].sort().values.tolist() == [3, 19, 35]  # the large channels
    assert math.isclose(float(scale_C.max() * scale_C.min()), 1.0, rel_tol=1e-5)


def test_awq_scales_nothing_where_inputs_are_alike_or_absent() -> None:
    weights = [(weight(12), Grid(4))]
    assert channel_scales(weights, torch.eye(48)) is None
    assert channel_scales(weights, torch.zeros(48, 48)) is None


# HQQ


@settings(max_examples=30)
@given(GRIDS, st.integers(0, 1000))
def test_hqq_is_never_worse_than_rounding_by_its_own_measure(grid: Grid, seed: int) -> None:
    W_RC = weight(seed, 4, 53)
    W_RC[:, ::7] = 0.0
    errors = [
        ((form(W_RC, grid).dense() - W_RC).abs() ** 0.7).sum().item()
        for form in (half_quadratic, round_to_nearest)
    ]
    assert errors[0] <= errors[1] * (1 + 1e-6)
    form = half_quadratic(W_RC, grid)
    assert (form.dense()[:, ::7] == 0).all()
    assert is_fp16(form.scale_RG)


@pytest.mark.parametrize("is_symmetric", [True, False])
@pytest.mark.parametrize("clip", [min_max_range, least_error_range])
def test_hqq_misses_less_than_the_rounding_that_it_starts_from(clip: RangeOf, is_symmetric: bool) -> None:
    W_RC, grid = weight(13, 32, 128), Grid(3, group_size=64, is_symmetric=is_symmetric)
    started, found = (
        ((form(W_RC, grid, clip).dense() - W_RC).abs() ** 0.7).sum()
        for form in (round_to_nearest, half_quadratic)
    )
    assert found < 0.99 * started


def test_hqq_finds_the_grid_that_a_weight_came_from() -> None:
    # Steps of 1/16 from -8 to 7; the ends of the range say steps of 0.5 / 7.5.
    W_RC = torch.arange(-8, 8)[None] / 16
    assert round_to_nearest(W_RC, Grid(4)).scale_RG.item() > 1 / 15.1
    assert half_quadratic(W_RC, Grid(4)).scale_RG.item() == 1 / 16


def test_min_max_of_a_short_last_group_is_of_its_own_weights() -> None:
    low, high = min_max_range(torch.tensor([[1.0, 2.0, 3.0]]), Grid(4, group_size=2))
    assert (low.tolist(), high.tolist()) == ([[1.0, 3.0]], [[2.0, 3.0]])
