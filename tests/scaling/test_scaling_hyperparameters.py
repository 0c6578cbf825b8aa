from __future__ import annotations

import numpy as np
import pytest

from kleiber.errors import DataError
from kleiber.scaling.hyperparameters import (
    HyperparameterLaws,
    best_settings,
    fit_hyperparameters,
    fit_shared_bowl,
)
from kleiber.scaling.sweeps import Sweep, read_sweeps
from kleiber.scaling.table import Columns


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
    assert law.batch(1e10, 2e11) == pytest.approx(0.5 * 2e11**0.5, rel=0.2)
    assert (law.num_sweeps, law.num_surfaces) == (9, 9)


def test_too_few_sweeps_are_refused():
    with pytest.raises(
        DataError, match=r"at least 4 sweeps over two sizes and two numbers of tokens\. Got '3 over 3 and 3'"
    ):
        fit_hyperparameters([sweep(n, 20 * n) for n in (1e8, 2e8, 4e8)])
    with pytest.raises(DataError, match=r"at least 4 sweeps .*Got '5 over 1 and 5'"):
        fit_hyperparameters([sweep(1e8, d) for d in (1e9, 2e9, 4e9, 8e9, 2e10)])


def test_sweeps_are_read_from_a_table(tmp_path):
    path = tmp_path / "sweeps.csv"
    path.write_text(
        "params,tokens,loss,extra\n1e8,2e9,3.5,lr=1e-3;bs=32\n1e8,2e9,9.5,lr=1e-2;bs=32\n2e8,2e9,3.25,lr=2e-3;bs=64\n"
    )
    first, second = read_sweeps([path], where="loss < 4")
    assert (first.num_params, first.num_tokens, first.learning_rate.tolist(), first.loss.tolist()) == (
        1e8,
        2e9,
        [1e-3],
        [3.5],
    )
    assert (second.num_params, second.batch.tolist()) == (2e8, [64.0])
    assert read_sweeps([path], Columns(learning_rate="lr", batch="bs"), where="loss < 4")[1].loss == [3.25]
    with pytest.raises(
        DataError, match=r"sweeps.csv has no column 'rate', which was named for learning_rate"
    ):
        read_sweeps([path], Columns(learning_rate="rate"))
    path.write_text("params,tokens,loss,lr,bs\n1e8,2e9,3.5,0,32\n")
    with pytest.raises(DataError, match=r"line 2: lr must be a positive number\. Got '0'"):
        read_sweeps([path])
    path.write_text("params,tokens,loss,eta,bs\n1e8,2e9,3.5,0,32\n")
    with pytest.raises(
        DataError, match=r"line 2 has no column for learning_rate; it has params, tokens, loss, eta"
    ):
        read_sweeps([path])


def test_one_bowl_for_all_sweeps_finds_the_laws_exactly():
    sizes = [(n, r * n) for n in (1e8, 3e8, 1e9) for r in (5, 20, 80)]
    # Every run shows the bowl, which is one of log loss: without noise least squares finds it.
    law = fit_shared_bowl([sweep(n, d) for n, d in sizes], near_frac=1.0, num_bootstrap=100)
    truth = (2, -0.7, 0.3, 0.5, 0, 0.5)
    assert list(law.coefficients.values()) == pytest.approx(truth, abs=1e-6)
    assert law.learning_rate(1e10, 2e11) == pytest.approx(2 * 1e10**-0.7 * 2e11**0.3)
    low, high = law.intervals_at(1e10, 2e11)["batch"]["95"]
    assert low == pytest.approx(0.5 * 2e11**0.5) == high


def test_a_saddle_is_no_bowl():
    sizes = [(n, r * n) for n in (1e8, 1e9) for r in (5, 80)]
    sweeps = []
    for n, d in sizes:
        one = sweep(n, d)
        x, y = np.log(one.learning_rate), np.log(one.batch)
        loss = 3 * np.exp(0.01 * (x - x.mean()) ** 2 - 0.005 * (y - y.mean()) ** 2)
        loss[24] = loss.min() * 0.999  # the middle: lowest within what was tried
        sweeps.append(Sweep(n, d, one.learning_rate, one.batch, loss))
    assert fit_shared_bowl(sweeps, near_frac=10.0) is None


def test_sweeps_that_tell_nothing_are_refused():
    sizes = [(n, r * n) for n in (1e8, 1e9) for r in (5, 80)]
    with pytest.raises(DataError, match="Sizes and tokens move together in these sweeps"):
        fit_hyperparameters([sweep(n, 20 * n) for n in (1e8, 2e8, 4e8, 8e8)])
    with pytest.raises(
        DataError,
        match=r"4 of 4 sweeps are lowest at the edge of what they tried, .* 1e\+08 parameters on 5e\+08 tokens",
    ):
        fit_shared_bowl([sweep(n, d, centre=30.0) for n, d in sizes])
    whole = [sweep(n, d) for n, d in sizes]
    for field, what in (("learning_rate", "learning rate"), ("batch", "batch")):
        first = whole[0]
        arrays = {name: getattr(first, name) for name in ("learning_rate", "batch", "loss")}
        arrays[field] = np.full_like(arrays[field], 0.01)
        with pytest.raises(DataError, match=f"1 of 4 sweeps tried fewer than three values of the {what}"):
            fit_hyperparameters([Sweep(first.num_params, first.num_tokens, **arrays), *whole[1:]])


def test_laws_are_read_as_they_were_written(tmp_path):
    sweeps = [sweep(n, r * n) for n in (1e8, 1e9) for r in (5, 80)]
    laws = HyperparameterLaws(
        convention="total",
        max_params=1e9,
        max_tokens=8e10,
        each=fit_hyperparameters(sweeps, num_bootstrap=100),
        shared=None,
    )
    laws.write(tmp_path / "laws.json")
    assert HyperparameterLaws.read(tmp_path / "laws.json") == laws
