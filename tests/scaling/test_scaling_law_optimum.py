from __future__ import annotations

import math

import numpy as np
import pytest

from kleiber.errors import UsageError
from kleiber.runs import Row
from kleiber.scaling import Coefficients, fit, optimum
from kleiber.scaling.forms import CHINCHILLA
from kleiber.scaling.law_optimum import optima, optimum_of_law

GRID = [(n, d) for n in (1e6, 1e7, 1e8, 1e9) for d in (1e8, 1e9, 1e10, 1e11)]


def law_of(form="chinchilla", **extra):
    rows = [
        Row.model_validate(
            {"run": f"{n}-{d}", "trunk": f"{n}-{d}", "num_params": {"embedding": 0, "body": n, "head": 0}, "num_tokens": d,
             "unique_tokens": d / (4 if k % 3 else 1), "loss": (1.8 + 480 * n**-0.35 + 2000 * d**-0.37) * (1 + 0.002 * math.sin(5 * k))} | extra
        )
        for k, (n, d) in enumerate(GRID)
    ]  # fmt: skip
    return fit(rows, form=form, num_bootstrap=100)


def test_a_search_finds_what_the_formula_says():
    law = law_of()
    by_formula = optimum(Coefficients.of(law), 1e21)
    by_search = optimum_of_law(law, 1e21)
    assert by_search.num_params == pytest.approx(by_formula.num_params, rel=1e-4)
    assert by_search.num_tokens == pytest.approx(1e21 / 6 / by_search.num_params)
    assert by_search.loss == pytest.approx(by_formula.loss)


@pytest.mark.parametrize("form", ["tied", "kaplan", "quadratic", "farseer", "repeated"])
def test_every_form_in_size_and_tokens_has_an_optimum(form):
    law = law_of(form)
    found = optimum_of_law(law, 1e20)
    for factor in (0.5, 0.9, 1.1, 2.0):
        size = factor * found.num_params
        tokens = 1e20 / 6 / size
        points = {"N": np.array([size]), "D": np.array([tokens]), "U": np.array([tokens])}
        assert law.losses(points)[0] > found.loss
    assert 6 * found.num_params * found.num_tokens == pytest.approx(1e20)


def test_serving_makes_the_best_model_smaller():
    law = law_of("quadratic")
    plain, served = optimum_of_law(law, 1e21), optimum_of_law(law, 1e21, inference_tokens=2e11)
    assert served.num_params < plain.num_params
    # What is left of the budget trains it: 6 N D + 2 N D_inference = C.
    assert 6 * served.num_params * served.num_tokens + 2 * served.num_params * 2e11 == pytest.approx(1e21)


def test_few_different_tokens_make_the_best_model_smaller():
    rows = law_of().rows
    repeated = [
        row.model_copy(
            update={"unique_tokens": row.num_tokens / (1 + k % 5), "loss": row.loss * (1 + 0.02 * (k % 5))}
        )
        for k, row in enumerate(rows)
    ]
    law = fit(repeated, form="repeated", num_bootstrap=100)
    many, few = optimum_of_law(law, 1e21), optimum_of_law(law, 1e21, unique_tokens=2e9)
    assert few.loss > many.loss


def test_what_has_no_optimum_says_so():
    with pytest.raises(
        UsageError, match="A law of form 'power_N' has no optimum: it does not weigh size against tokens"
    ):
        optimum_of_law(law_of("power_N"), 1e21)
    with pytest.raises(UsageError, match=r"A compute budget must be a positive number\. Got -1\.0"):
        optimum_of_law(law_of(), -1.0)
    with pytest.raises(
        UsageError,
        match="needs a law of form 'chinchilla', whose optimum has a formula; this one is of form 'tied'",
    ):
        Coefficients.of(law_of("tied"))


def test_a_law_that_bends_the_wrong_way_has_no_best_size():
    law = law_of("quadratic")
    flat = law.model_copy(
        update={"coefficients": law.coefficients | {"c_nn": -0.05, "c_nd": 0.0, "c_dd": -0.05}}
    )
    with pytest.raises(UsageError, match="no size is best for 1e\\+21 FLOP"):
        optimum_of_law(flat, 1e21)


def test_optima_of_many_vectors_equal_the_formula():
    vectors = np.array([[1.8, 480, 2000, 0.35, 0.37], [1.7, 400, 410, 0.34, 0.28]])
    found = optima(CHINCHILLA, vectors, np.array([1e20, 1e22]))
    for row, vector in zip(found, vectors, strict=True):
        expected = [optimum(Coefficients(*vector), flops).num_params for flops in (1e20, 1e22)]
        assert row.tolist() == pytest.approx(expected)
