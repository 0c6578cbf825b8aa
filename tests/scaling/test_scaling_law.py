from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest

from kleiber.errors import DataError, RunFolderError, UsageError
from kleiber.runs import Row, hash_of
from kleiber.scaling import FORMS, Law, fit, forecast
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


def as_version_1(law: Law) -> dict:
    """Return what version 1 wrote: it knew one form, and rows without active parameters."""
    document = json.loads(law.to_json())
    for name in ("estimator", "chance", "undetermined", "average", "excluded", "floor"):
        del document[name]
    for row in document["rows"]:
        del row["active_params"]
    return document | {"version": 1}


def test_a_law_of_version_1_is_read_and_keeps_its_hash(law, tmp_path):
    document = as_version_1(law)
    (tmp_path / "law.json").write_text(json.dumps(document))
    again = Law.read(tmp_path / "law.json")
    assert again.coefficients == law.coefficients
    assert again.predict(1e6, 1e8) == law.predict(1e6, 1e8)
    assert again.hash == hash_of(document)
    assert again.hash != law.hash


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"version": 4}, r"version: input should be 1, 2 or 3\. Got 4"),
        ({"form": "magic"}, "form must be one of chinchilla, tied, .*got 'magic'"),
        (
            {"form": "kaplan"},
            "a law of form kaplan has the coefficients N_c D_c alpha_N alpha_D, got E A B alpha beta",
        ),
        ({"samples": [[1.0, 2.0]]}, "every sample must have 5 numbers, one a coefficient"),
    ],
)
def test_a_law_that_is_none_is_refused(law, tmp_path, changes, text):
    (tmp_path / "law.json").write_text(json.dumps(json.loads(law.to_json()) | changes))
    with pytest.raises(RunFolderError, match=text):
        Law.read(tmp_path / "law.json")


def test_a_refit_stands_in_one_line(law):
    lines = law.to_json().splitlines()
    assert lines[-3].startswith("    [")
    assert len(json.loads(lines[-3])) == 5
    assert len(lines) < 100 + 20 * law.num_rows + len(law.samples)


def test_many_predictions_equal_each_by_itself(law):
    sizes, tokens = [1e5, 1e6, 1e7], [1e8, 1e7, 1e9]
    many = law.predictions(sizes, tokens)
    for k in range(3):
        one = law.predict(sizes[k], tokens[k])
        assert many.loss[k] == pytest.approx(one.loss)
        assert (many.low_80[k], many.high_80[k]) == pytest.approx(one.interval_80)
        assert (many.low_95[k], many.high_95[k]) == pytest.approx(one.interval_95)
    assert law.predictions(1e5, tokens).loss.shape == (3,)


FORMED = {
    "repeated": {"unique_tokens": 5e6},
    "mixture": {"active_params": 2e4},
}


@pytest.mark.parametrize("form", [name for name in FORMS if name != "accuracy"])
def test_a_law_of_any_form_foretells_and_is_kept(form, tmp_path):
    rows = []
    for k, (n, d) in enumerate(
        itertools.product((10_000, 40_000, 160_000, 640_000, 2_560_000), (1e6, 4e6, 1.6e7, 6.4e7))
    ):
        loss = 1.5 + 40 * n**-0.3 + 400 * d**-0.45
        part = (1.0, 0.5, 0.25, 0.7)[k % 4]
        rows.append(
            Row.model_validate(
                {"run": f"{k}", "trunk": f"{k}", "num_params": {"embedding": 0, "body": n, "head": 0}, "num_tokens": d,
                 "unique_tokens": d / (1, 2, 8)[k % 3], "active_params": n * part, "loss": loss * (1 + 0.001 * math.sin(9 * k)) * part**-0.05}
            )
        )  # fmt: skip
    fitted = fit(rows, form=form, num_bootstrap=100)
    further = FORMED.get(form, {})
    one = fitted.predict(5_000_000, 1e8, **further)
    assert one.interval_95[0] < one.interval_80[0] < one.loss < one.interval_80[1] < one.interval_95[1]
    fitted.write(tmp_path / "law.json")
    assert Law.read(tmp_path / "law.json") == fitted
    assert list(fitted.intervals) == list(FORMS[form].names)
    for name, value in further.items():
        with pytest.raises(UsageError, match="of the run to come"):
            fitted.predict(5_000_000, 1e8)
        sealed = forecast(fitted, 5_000_000, 1e8, **further)
        assert getattr(sealed, name) == value
        assert sealed.hash == sealed.expected_hash()


def test_a_law_of_accuracies_stays_between_chance_and_one():
    rows = []
    for n, d in itertools.product((1e4, 1e5, 1e6, 1e7), (1e6, 1e7, 1e8)):
        value = 0.25 + 0.75 / (1 + math.exp(-(2.5 - 60 * n**-0.3 - 90 * d**-0.3)))
        rows.append(
            {"run": f"{n}-{d}", "trunk": f"{n}-{d}", "num_params": {"embedding": 0, "body": n, "head": 0}, "num_tokens": d, "loss": value}
        )  # fmt: skip
    rows = [Row.model_validate(row) for row in rows]
    fitted = fit(rows, form="accuracy", chance=0.25, num_bootstrap=100)
    assert fitted.loss_unit == "accuracy"
    assert fitted.coefficients["h"] == pytest.approx(2.5, rel=0.02)
    far = fitted.predict(1e15, 1e15)
    assert far.loss == pytest.approx(0.25 + 0.75 / (1 + math.exp(-2.5)), abs=0.01)
    assert far.interval_95[1] <= 1
    sealed = forecast(fitted, 1e9, 1e9)
    assert (sealed.loss_unit, sealed.best_rung_loss) == ("accuracy", max(row.loss for row in rows))
    assert sealed.naive.last_rung_loss == max(row.loss for row in rows)
    assert sealed.naive.log_log_line_loss <= 1
    with pytest.raises(DataError, match=r"a law of accuracies takes parts of 1\. Got 37"):
        fit([*rows, rows[0].model_copy(update={"loss": 37.0})], form="accuracy")
