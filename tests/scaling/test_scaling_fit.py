from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kleiber.errors import ConventionError, DataError, MissingExtraError, UsageError
from kleiber.runs import ParamCount, Row
from kleiber.scaling import COEFFICIENTS, Columns, fit, read_rows
from kleiber.scaling.bootstrap import estimate
from kleiber.scaling.forms import CHINCHILLA, Design

PUBLISHED = (1.69, 406.4, 410.7, 0.34, 0.28)
"""Hoffmann et al. 2022."""


def row(num_params: float, num_tokens: float, loss: float, **extra) -> Row:
    count = ParamCount(embedding=0, body=round(num_params), head=0)
    name = f"{num_params:.6g}-{num_tokens:.6g}"
    return Row(
        **{"run": name, "trunk": name, "num_params": count, "num_tokens": num_tokens, "loss": loss, **extra}
    )


def law_rows(coefficients, sizes, tokens):
    E, A, B, alpha, beta = coefficients
    return [row(n, d, E + A * round(n) ** -alpha + B * d**-beta) for n in sizes for d in tokens]


@settings(max_examples=25)
@given(
    E=st.floats(1.0, 2.5), alpha=st.floats(0.2, 0.6), beta=st.floats(0.2, 0.6), a=st.floats(0.3, 1.5), b=st.floats(0.3, 1.5)
)  # fmt: skip
def test_a_fit_recovers_the_law_it_was_sampled_from(E, alpha, beta, a, b):
    # a and b are the terms at 10 M parameters and 1 B tokens.
    A, B = a * 1e7**alpha, b * 1e9**beta
    sizes, tokens = [1e6, 3e6, 1e7, 5e7, 3e8], [1e8, 5e8, 3e9, 2e10]
    law = fit(law_rows((E, A, B, alpha, beta), sizes, tokens), num_bootstrap=100)
    found = [law.coefficients[name] for name in COEFFICIENTS]
    assert found == pytest.approx([E, A, B, alpha, beta], rel=2e-3)
    assert law.objective < 1e-9
    assert law.predict(3e9, 1e11).loss == pytest.approx(E + A * 3e9**-alpha + B * 1e11**-beta, rel=1e-4)


def test_the_golden_law_of_a_noisy_ladder(noisy_rows):
    law = fit(noisy_rows)
    golden = {"E": 1.4473670258, "A": 38.605775, "B": 443.81376, "alpha": 0.2868348803, "beta": 0.4559876830}
    assert {name: law.coefficients[name] for name in golden} == pytest.approx(golden, rel=1e-5)
    assert law.objective == pytest.approx(4.65096054e-05, rel=1e-7)
    assert law.num_rows == 24
    assert law.eval_hash == "e1"


def test_wild_rows_do_not_pull_the_law(ladder):
    rows = ladder(run_frac=0.001, num_seeds=3)
    broken = [r.model_copy(update={"loss": r.loss * 1.3}) if k in (4, 17) else r for k, r in enumerate(rows)]
    clean, robust = fit(rows, num_bootstrap=100), fit(broken, num_bootstrap=100)
    assert robust.predict(8e5, 3e6).loss == pytest.approx(clean.predict(8e5, 3e6).loss, rel=0.004)


def test_the_order_of_the_rows_does_not_matter(noisy_rows):
    first, second = fit(noisy_rows, num_bootstrap=100), fit(noisy_rows[::-1], num_bootstrap=100)
    assert first.coefficients == pytest.approx(second.coefficients, rel=1e-6)


def test_the_seed_decides_the_intervals_and_nothing_else(noisy_rows):
    first, again, other = (fit(noisy_rows, num_bootstrap=100, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.hash == again.hash
    assert first.intervals != other.intervals
    assert first.coefficients == other.coefficients


def test_intervals_are_nested_and_hold_the_truth_of_a_wide_ladder(ladder):
    rows = ladder(
        sizes=[10**k for k in range(5, 10)], horizons=[10.0**k for k in range(6, 12)], run_frac=0.003
    )
    law = fit(rows)
    for name, truth in zip(COEFFICIENTS, (1.5, 43.3, 408.5, 0.3, 0.45), strict=True):
        low, high = law.intervals[name]["95"]
        assert low <= law.intervals[name]["80"][0] <= law.intervals[name]["80"][1] <= high
        assert low <= truth <= high
    assert law.e_determined
    assert not [note for note in law.notes if "E" in note]


def test_rows_that_do_not_determine_e_say_so(ladder):
    rows = ladder(sizes=(40_000, 60_000), horizons=(5e5, 6e5, 7e5), trunk_frac=0.004, run_frac=0.002)
    law = fit(rows)
    assert not law.e_determined
    assert "do not determine E" in law.notes[0]
    assert any("Two sizes" in note for note in law.notes)


def test_rows_without_repeats_say_so():
    law = fit(law_rows(PUBLISHED, [1e6, 1e7, 1e8], [1e8, 1e9, 1e10]), num_bootstrap=100)
    assert any("seed noise and misfit cannot be told apart" in note for note in law.notes)


def test_the_convention_decides_what_n_is(ladder):
    rows = ladder()
    total, body = (fit(rows, convention=name, num_bootstrap=100) for name in ("total", "body"))
    assert body.convention == "body"
    # The body is three quarters of every size here, so A shrinks by 0.75^alpha and nothing else moves.
    assert body.coefficients["A"] == pytest.approx(
        total.coefficients["A"] * 0.75 ** total.coefficients["alpha"], rel=1e-3
    )
    assert body.predict(3e5, 1e6).loss == pytest.approx(total.predict(4e5, 1e6).loss, rel=1e-6)


@pytest.mark.parametrize(("convention", "missing"), [("body", "embedding"), ("matmul", "head")])
def test_a_convention_that_the_rows_do_not_tell_is_refused(convention, missing):
    rows = law_rows(PUBLISHED, [1e6, 1e7, 1e8], [1e8, 1e9, 1e10])
    with pytest.raises(ConventionError, match=f"does not say how many of its parameters are {missing}"):
        fit(rows, convention=convention)


def test_a_model_without_a_body_cannot_be_counted_by_it(ladder):
    rows = ladder()
    hollow = rows[0].model_copy(update={"num_params": ParamCount(embedding=9, body=0, head=0)})
    with pytest.raises(ConventionError, match="has no parameters when N is counted as 'body'"):
        fit([hollow, *rows[1:]], convention="body")


@pytest.mark.parametrize("other", ["e2", None])
def test_rows_of_two_evaluation_sets_are_not_pooled(noisy_rows, other):
    rows = [*noisy_rows[:-1], noisy_rows[-1].model_copy(update={"eval_hash": other})]
    with pytest.raises(
        ConventionError, match="evaluated on 2: 'n40000-s0-h512000' on e1, 'n400000-s1-h1638400' on"
    ):
        fit(rows)


def test_too_few_rows_are_refused():
    rows = law_rows(PUBLISHED, [1e6, 1e7], [1e8, 1e9])
    with pytest.raises(DataError, match=r"at least 6 different pairs of size and tokens\. Got 4"):
        fit(rows * 3)
    with pytest.raises(DataError, match="there is none"):
        fit([])


def test_one_size_or_one_horizon_is_refused():
    with pytest.raises(DataError, match="these 8 rows have one size"):
        fit(law_rows(PUBLISHED, [1e6], [10.0**k for k in range(8, 16)]))
    with pytest.raises(DataError, match="these 8 rows have one number of tokens"):
        fit(law_rows(PUBLISHED, [10.0**k for k in range(5, 13)], [1e9]))


@pytest.mark.parametrize("loss", [0.0, -1.0, float("nan"), float("inf")])
def test_a_loss_that_is_not_positive_names_its_run(noisy_rows, loss):
    rows = [noisy_rows[0].model_copy(update={"loss": loss}), *noisy_rows[1:]]
    with pytest.raises(DataError, match="run 'n40000-s0-h512000': loss must be a positive number"):
        fit(rows)


def test_choices_are_checked(noisy_rows):
    with pytest.raises(UsageError, match=r"'chinchila' is not a form\. Did you mean 'chinchilla'"):
        fit(noisy_rows, form="chinchila")
    with pytest.raises(UsageError, match=r"'bod' is not a convention\. Did you mean 'body'"):
        fit(noisy_rows, convention="bod")
    with pytest.raises(UsageError, match="num_bootstrap must be at least 100"):
        fit(noisy_rows, num_bootstrap=10)


def test_fitting_imports_neither_torch_nor_scipy():
    code = "import sys, kleiber.scaling; print([m for m in ('torch', 'scipy') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )


@pytest.mark.slow
@pytest.mark.skipif(
    not os.environ.get("KLEIBER_DATA"), reason="KLEIBER_DATA does not name a folder with epoch_chinchilla.csv"
)
def test_the_published_refit_of_chinchilla_is_met():
    rows = read_rows([Path(os.environ["KLEIBER_DATA"]) / "epoch_chinchilla.csv"], Columns(), drop_highest=5)
    num_params = np.array([float(r.num_params.total) for r in rows])
    design = Design.of({"N": num_params, "D": np.array([r.num_tokens for r in rows])})
    start = time.perf_counter()
    theta, objective = estimate(CHINCHILLA, design, np.log([r.loss for r in rows]))
    assert time.perf_counter() - start < 1.0
    # Besiroglu et al. 2024, arXiv:2404.10102.
    assert objective <= 0.0010183
    E, A, B, alpha, beta = CHINCHILLA.coefficients_of(theta, design)[0]
    assert pytest.approx(1.817, abs=0.001) == E
    assert (alpha, beta) == (pytest.approx(0.348, abs=0.003), pytest.approx(0.366, abs=0.003))
    assert pytest.approx(482, rel=0.03) == A
    assert pytest.approx(2085, rel=0.05) == B
    law = fit(rows)
    published = {
        "E": (1.769, 1.871),
        "A": (285, 744),
        "B": (1042, 5810),
        "alpha": (0.317, 0.373),
        "beta": (0.331, 0.415),
    }
    for name, (low, high) in published.items():
        found = law.intervals[name]["95"]
        assert (found[1] - found[0]) / (high - low) == pytest.approx(1, abs=0.15), json.dumps({name: found})


def test_coefficients_that_the_rows_do_not_tell_are_named(ladder):
    # A loss that does not depend on tokens: B and beta are anything.
    rows = [
        row(n, d, 1.5 + 40 * n**-0.3 + 0.002 * math.sin(k))
        for k, (n, d) in enumerate(itertools.product((1e5, 1e6, 1e7, 1e8), (1e8, 1e9, 1e10)))
    ]
    law = fit(rows, num_bootstrap=200)
    assert {"B", "beta"} & set(law.undetermined)
    assert not {"A", "alpha"} & set(law.undetermined)
    assert any("other values fit them as well" in note and "beta" in note for note in law.notes)
    wide = ladder(
        sizes=[10**k for k in range(5, 10)], horizons=[10.0**k for k in range(6, 12)], run_frac=0.003
    )
    assert fit(wide, num_bootstrap=200).undetermined == ()


def test_approach_3_finds_the_same_law(noisy_rows):
    ours, theirs = (
        fit(noisy_rows, num_bootstrap=100),
        fit(noisy_rows, estimator="approach3", num_bootstrap=100),
    )
    assert theirs.estimator == "approach3"
    assert theirs.objective == pytest.approx(ours.objective, rel=1e-4)
    assert theirs.predict(8e5, 3e6).loss == pytest.approx(ours.predict(8e5, 3e6).loss, rel=1e-3)
    with pytest.raises(UsageError, match=r"approach3 is of the form 'chinchilla'\. Got 'tied'"):
        fit(noisy_rows, form="tied", estimator="approach3")
    with pytest.raises(UsageError, match="'approach2' gives no law"):
        fit(noisy_rows, estimator="approach2")


def test_forms_say_which_inputs_they_miss(noisy_rows):
    with pytest.raises(
        DataError,
        match="form 'repeated' needs different training tokens, and run 'n40000-s0-h512000' does not say",
    ) as caught:
        fit(noisy_rows, form="repeated")
    assert "--columns unique_tokens=NAME" in str(caught.value)
    with pytest.raises(DataError, match="form 'mixture' needs active parameters / all parameters"):
        fit(noisy_rows, form="mixture")
    once = [r.model_copy(update={"unique_tokens": r.num_tokens}) for r in noisy_rows]
    with pytest.raises(DataError, match="is about repeated tokens, and no run repeats any"):
        fit(once, form="repeated")
    dense = [r.model_copy(update={"active_params": float(r.num_params.total)}) for r in noisy_rows]
    with pytest.raises(
        DataError,
        match="two sizes and two numbers of tokens and two active parts; these 24 rows have one active part",
    ):
        fit(dense, form="mixture")


def test_rows_of_one_size_are_told_what_they_can_be_fitted_with():
    rows = law_rows(PUBLISHED, [1e6], [10.0**k for k in range(8, 16)])
    with pytest.raises(DataError, match="have one size") as caught:
        fit(rows)
    assert "--form power_D" in str(caught.value)
    law = fit(rows, form="power_D", num_bootstrap=100)
    assert law.coefficients["alpha"] == pytest.approx(0.28, rel=0.01)


def test_compute_is_the_rows_own_where_they_say_it():
    rows = law_rows(PUBLISHED, [1e6, 1e7, 1e8, 1e9], [1e8, 1e9])
    counted = [r.model_copy(update={"train_flops": 7.0 * r.num_params.total * r.num_tokens}) for r in rows]
    by_rule, by_count = (fit(found, form="power_C", num_bootstrap=100) for found in (rows, counted))
    alpha = by_rule.coefficients["alpha"]
    assert by_count.coefficients["alpha"] == pytest.approx(alpha, rel=1e-4)
    assert by_count.coefficients["A"] / by_rule.coefficients["A"] == pytest.approx((7 / 6) ** alpha, rel=1e-3)


def test_approach_3_without_scipy_says_what_to_install(noisy_rows, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(
        MissingExtraError, match="Approach 3 needs the package 'scipy', which is not installed"
    ):
        fit(noisy_rows, estimator="approach3")
