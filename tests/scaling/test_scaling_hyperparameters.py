from __future__ import annotations

import numpy as np
import pytest

from kleiber.errors import DataError, UsageError
from kleiber.scaling.hyperparameters import Sweep, best_settings, fit_hyperparameters, read_sweeps


def sweep(size: float, tokens: float, *, noise: float = 0.0, centre: float = 1.0, seed: int = 0) -> Sweep:
    """Return a bowl whose lowest point is at rate 2 N^-0.7 D^0.3 and batch 0.5 D^0.5, tried around `centre` times it."""
    rate, batch = 2 * size**-0.7 * tokens**0.3, 0.5 * tokens**0.5
    grid = np.array([(u, v) for u in np.linspace(-1.4, 1.4, 7) for v in np.linspace(-2, 2, 7)])
    u, v = grid.T + np.log(centre)
    random = np.random.default_rng(seed)
    loss = 3 * np.exp(0.01 * u**2 + 0.004 * u * v + 0.005 * v**2 + noise * random.standard_normal(len(u)))
    return Sweep(size, tokens, rate * np.exp(u), batch * np.exp(v), loss)


def test_the_lowest_point_of_a_bowl_lies_between_the_runs():
    one = sweep(1e8, 1e10, centre=1.2)
    best = best_settings(one)
    assert best.is_surface
    assert best.learning_rate == pytest.approx(2 * 1e8**-0.7 * 1e10**0.3, rel=1e-6)
    assert best.batch == pytest.approx(0.5 * 1e10**0.5, rel=1e-6)


def test_a_bowl_that_opens_outside_of_what_was_tried_gives_the_lowest_run():
    one = sweep(1e8, 1e10, centre=30.0)
    best = best_settings(one)
    assert not best.is_surface
    lowest = one.loss.argmin()
    assert (best.learning_rate, best.batch) == (one.learning_rate[lowest], one.batch[lowest])


def test_the_laws_behind_the_sweeps_are_found():
    sweeps = [
        sweep(size, tokens, noise=0.001, seed=k)
        for k, (size, tokens) in enumerate([(n, r * n) for n in (1e8, 3e8, 1e9) for r in (5, 20, 80)])
    ]
    law = fit_hyperparameters(sweeps, num_bootstrap=100)
    truth = {"rate_by_size": -0.7, "rate_by_tokens": 0.3, "batch_by_tokens": 0.5}
    for name, value in truth.items():
        assert law.coefficients[name] == pytest.approx(value, abs=0.05)
        low, high = law.intervals[name]["95"]
        assert low <= value <= high
    assert law.learning_rate(1e10, 2e11) == pytest.approx(2 * 1e10**-0.7 * 2e11**0.3, rel=0.2)
    assert law.batch(2e11) == pytest.approx(0.5 * 2e11**0.5, rel=0.2)
    assert (law.num_sweeps, law.num_surfaces) == (9, 9)


def test_too_few_sweeps_are_refused():
    with pytest.raises(
        DataError, match=r"at least 4 sweeps over two sizes and two numbers of tokens\. Got 3"
    ):
        fit_hyperparameters([sweep(n, 20 * n) for n in (1e8, 2e8, 4e8)])
    with pytest.raises(DataError, match=r"at least 4 sweeps .*Got 5"):
        fit_hyperparameters([sweep(1e8, d) for d in (1e9, 2e9, 4e9, 8e9, 2e10)])


def test_sweeps_are_read_from_a_table(tmp_path):
    path = tmp_path / "sweeps.csv"
    path.write_text(
        "params,tokens,loss,extra\n1e8,2e9,3.5,lr=1e-3;bs=32\n1e8,2e9,9.5,lr=1e-2;bs=32\n2e8,2e9,3.25,lr=2e-3;bs=64\n"
    )
    first, second = read_sweeps([path], "lr", "bs", where="loss < 4")
    assert (first.num_params, first.num_tokens, first.learning_rate.tolist(), first.loss.tolist()) == (
        1e8,
        2e9,
        [1e-3],
        [3.5],
    )
    assert (second.num_params, second.batch.tolist()) == (2e8, [64.0])
    with pytest.raises(
        UsageError, match=r"line 2 has no column 'rate'; it has params, tokens, loss, extra, lr, bs"
    ):
        read_sweeps([path], "rate", "bs")
    path.write_text("params,tokens,loss,lr,bs\n1e8,2e9,3.5,0,32\n")
    with pytest.raises(DataError, match=r"line 2: lr must be a positive number\. Got '0'"):
        read_sweeps([path], "lr", "bs")
