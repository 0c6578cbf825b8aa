from __future__ import annotations

import math

import numpy as np
import pytest

from kleiber.errors import RunFolderError, UsageError
from kleiber.runs import Row
from kleiber.scaling import Law, fit
from kleiber.scaling.noise import Noise


@pytest.fixture(scope="module")
def law():
    rows = [
        {"run": f"{n}-{d}", "trunk": f"{n}", "num_params": {"embedding": 0, "body": n, "head": 0}, "num_tokens": d,
         "loss": 1.5 + 40 * n**-0.3 + 400 * d**-0.45, "eval_hash": None}
        for n in (10_000, 40_000, 160_000) for d in (1e5, 1e6, 1e7)
    ]  # fmt: skip
    return fit([Row.model_validate(row) for row in rows], num_bootstrap=100)


def with_samples(law: Law, samples, total_frac: float) -> Law:
    noise = Noise(trunk_frac=total_frac, run_frac=0, misfit_frac=0, num_repeats=1)
    return law.model_copy(update={"samples": tuple(samples), "noise": noise})


def test_it_reads_back_what_it_wrote(law, tmp_path):
    law.write(tmp_path / "law.json")
    again = Law.read(tmp_path / "law.json")
    assert again == law
    assert again.hash == law.hash


def test_a_truncated_law_is_refused(law, tmp_path):
    path = tmp_path / "law.json"
    path.write_text(law.to_json()[:500])
    with pytest.raises(RunFolderError, match="truncated or not valid JSON"):
        Law.read(path)


def test_any_change_changes_the_hash(law):
    assert law.model_copy(update={"convention": "body"}).hash != law.hash


def test_one_sample_gives_the_interval_of_the_noise_alone(law):
    sample = (1.0, 0.0, 0.0, 0.3, 0.3)  # a loss of 1 everywhere
    prediction = with_samples(law, [sample] * 100, 0.01).predict(1e6, 1e8)
    assert prediction.interval_80 == pytest.approx((math.exp(-0.012816), math.exp(0.012816)), abs=3e-4)
    assert prediction.interval_95 == pytest.approx((math.exp(-0.0196), math.exp(0.0196)), abs=1e-3)


def test_samples_alone_give_their_own_quantiles(law):
    samples = [(1.0 + k / 100, 0.0, 0.0, 0.3, 0.3) for k in range(101)]
    prediction = with_samples(law, samples, 0.0).predict(1e6, 1e8)
    assert prediction.interval_80 == pytest.approx((1.1, 1.9), abs=1e-3)
    assert prediction.interval_95 == pytest.approx((1.025, 1.975), abs=6e-3)


def test_the_point_is_of_the_fit_itself(law):
    assert law.predict(1e6, 1e8).loss == pytest.approx(1.5 + 40 * 1e6**-0.3 + 400 * 1e8**-0.45, rel=1e-4)


def test_intervals_widen_as_one_extrapolates(noisy_rows):
    law = fit(noisy_rows)
    widths = [np.ptp(law.predict(4e5 * factor, 1.6e6 * factor).interval_80) for factor in (1, 3, 10, 100)]
    assert widths == sorted(widths)
    assert widths[-1] > 2 * widths[0]


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_a_number_that_is_not_positive_is_refused(law, bad):
    with pytest.raises(UsageError, match="num_params must be a positive number"):
        law.predict(bad, 1e6)
    with pytest.raises(UsageError, match="num_tokens must be a positive number"):
        law.predict(1e6, bad)
