from __future__ import annotations

import math

import numpy as np
import pytest

from kleiber.scaling.noise import MISFIT_FLOOR_FRAC, Groups, measure_noise


def test_rows_of_one_size_and_horizon_are_one_cell():
    groups = Groups(np.array([1e5, 1e5, 2e5, 2e5]), np.array([1e7, 1e7, 1e7, 2e7]), ["a", "b", "c", "c"])
    assert groups.cell_R[0] == groups.cell_R[1]
    assert (groups.num_cells, groups.num_trunks) == (3, 3)
    assert groups.size_R.tolist() == [0, 0, 1, 1]


def test_runs_on_other_amounts_of_different_tokens_are_no_repeats():
    arrays = np.full(4, 1e5), np.full(4, 1e7), ["a", "b", "c", "d"]
    others = [(1e7, 0.0), (1e7, 0.0), (1e6, 0.0), (1e6, 5.0)]
    groups = Groups(*arrays, others)
    assert groups.cell_R.tolist() == [0, 0, 1, 2]
    assert Groups(*arrays).num_cells == 1


def test_seed_noise_worked_by_hand():
    # One size, two trunks, two horizons. Deviations from the cells' means:
    # trunk a: +0.03, +0.01 (mean 0.02); trunk b: -0.03, -0.01 (mean -0.02). One degree of freedom each way.
    # Between a trunk's runs: 4 * 0.01² / 1 = 4e-4. Between trunks: 2 * 0.02² / 1 - 4e-4 / 2 = 6e-4.
    groups = Groups(np.full(4, 1e5), np.array([1.0, 2.0, 1.0, 2.0]), ["a", "a", "b", "b"])
    noise = measure_noise(np.array([1.03, 0.51, 0.97, 0.49]), np.array([1.0, 0.5, 1.0, 0.5]), groups)
    assert noise.run_frac == pytest.approx(math.sqrt(4e-4))
    assert noise.trunk_frac == pytest.approx(math.sqrt(6e-4))
    assert noise.seed_frac == pytest.approx(math.sqrt(1e-3))
    assert noise.num_repeats == 1


def test_misfit_is_of_the_cells_means_over_the_freedom_that_is_left():
    num_cells = 9
    groups = Groups(np.arange(1.0, 10.0).repeat(2), np.full(18, 5.0), [f"t{k}" for k in range(18)])
    means = np.array([0.01, -0.02, 0.03, 0.0, 0.01, -0.03, 0.02, -0.01, 0.01]).repeat(2)
    seeds = np.tile([0.004, -0.004], num_cells)
    noise = measure_noise(means + seeds, np.zeros(18), groups)
    squares = 4 * 0.01**2 + 2 * 0.02**2 + 2 * 0.03**2
    # Two runs a cell at ±0.004: variance 2 * 0.004² / 1, all of it between trunks; half of it in a cell's mean, and
    # of that the fit of five coefficients to nine cells leaves four ninths.
    assert noise.misfit_frac == pytest.approx(math.sqrt((squares - 4 * 0.004**2) / 9))
    assert noise.trunk_frac == pytest.approx(0.004 * math.sqrt(2))
    assert noise.run_frac == 0.0


def test_without_repeats_there_is_only_misfit():
    groups = Groups(np.arange(1.0, 9.0), np.arange(1.0, 9.0), list("abcdefgh"))
    noise = measure_noise(np.full(8, 0.03), np.zeros(8), groups)
    assert (noise.seed_frac, noise.num_repeats) == (0.0, 0)
    assert noise.total_frac == pytest.approx(0.03)


def test_a_perfect_fit_is_not_believed():
    groups = Groups(np.arange(1.0, 9.0), np.arange(1.0, 9.0), list("abcdefgh"))
    assert measure_noise(np.zeros(8), np.zeros(8), groups).total_frac == MISFIT_FLOOR_FRAC


def test_the_scales_of_drawn_noise_are_found():
    random = np.random.default_rng(0)
    num_sizes, num_seeds, num_horizons = 60, 4, 5
    size, trunk, horizon = (a.ravel() for a in np.indices((num_sizes, num_seeds, num_horizons)))
    groups = Groups(size + 1.0, horizon + 1.0, [f"{a}-{b}" for a, b in zip(size, trunk, strict=True)])
    misfit = random.normal(0, 0.02, (num_sizes, 1, num_horizons))
    shared, own = (
        random.normal(0, 0.006, (num_sizes, num_seeds, 1)),
        random.normal(0, 0.003, (num_sizes, num_seeds, num_horizons)),
    )
    noise = measure_noise((misfit + shared + own).ravel(), np.zeros(len(size)), groups)
    assert noise.trunk_frac == pytest.approx(0.006, rel=0.1)
    assert noise.run_frac == pytest.approx(0.003, rel=0.1)
    assert noise.misfit_frac == pytest.approx(0.02, rel=0.1)
    assert noise.num_repeats == num_sizes * (num_seeds - 1)
