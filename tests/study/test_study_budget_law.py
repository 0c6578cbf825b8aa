"""Laws of other forms than Chinchilla's on a budget: against formulas worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kleiber.cost import find_device
from kleiber.cost.usage import Usage
from kleiber.errors import UsageError
from kleiber.runs import ParamCount, Row
from kleiber.scaling import Coefficients, Law, fit_auto, optimum, published_law
from kleiber.scaling.noise import Noise
from kleiber.study.budget import Budget
from kleiber.study.budget_law import BudgetLaw
from kleiber.study.inverse import find

ROWS = tuple(
    Row(run=f"{n}-{d:g}", trunk=f"{n}", num_tokens=d, loss=3.0, num_params=ParamCount(embedding=0, body=n, head=0))
    for n in (1_000_000, 30_000_000) for d in (2e7, 6e8)
)  # fmt: skip
BOUNDS = (1e4, 1e12)


def law_of(form: str, coefficients: dict[str, float], *, unit: str = "nats/token") -> Law:
    names = list(coefficients)
    random = np.random.default_rng(0)
    point = np.array(list(coefficients.values()))
    samples = point * np.exp(random.normal(0, 0.01, (200, len(names))))
    return Law(
        form=form, convention="total", coefficients=coefficients, objective=0.0, num_rows=len(ROWS),
        loss_unit=unit,  # type: ignore[arg-type]
        intervals={name: {"80": (0.0, 1.0), "95": (0.0, 1.0)} for name in names},
        noise=Noise(trunk_frac=0.0, run_frac=0.0, misfit_frac=0.002, num_repeats=0),
        eval_hash=None, e_determined=False, notes=(), rows=ROWS, samples=tuple(map(tuple, samples.tolist())),
    )  # fmt: skip


TIED = law_of("tied", {"E": 1.7, "A": 120.0, "B": 300.0, "alpha": 0.3})
KAPLAN = law_of("kaplan", {"N_c": 1e12, "D_c": 2e13, "alpha_N": 0.1, "alpha_D": 0.12})
QUADRATIC = law_of(
    "quadratic", {"c_0": 9.0, "c_n": -0.35, "c_d": -0.4, "c_nn": 0.009, "c_nd": -0.006, "c_dd": 0.009}
)
LAWS = {"tied": TIED, "kaplan": KAPLAN, "quadratic": QUADRATIC}


def tokens_on(flops: float):
    return lambda size: flops / 6 / size


def test_a_tied_law_has_the_optimum_of_chinchillas_form_with_equal_exponents() -> None:
    exact = optimum(Coefficients(1.7, 120.0, 300.0, 0.3, 0.3), 1e18)
    known = BudgetLaw(TIED)
    found = known.best(tokens_on(1e18), BOUNDS)
    assert known.formula is None
    assert found.num_params == pytest.approx(exact.num_params, rel=1e-4)
    assert found.loss == pytest.approx(exact.loss, rel=1e-9)
    assert known.size_exponent(tokens_on(1e18), BOUNDS) == pytest.approx(0.5, abs=1e-4)
    assert known.best_tokens(exact.num_params) == pytest.approx(exact.num_tokens, rel=1e-4)


@pytest.mark.parametrize("served", [0.0, 1e10])
def test_kaplans_best_tokens_solve_its_own_equation(served) -> None:
    # dL/dlog N : dL/dlog D = (alpha_N / alpha_D) (N_c / N)^(alpha_N / alpha_D) : D_c / D
    size = 3e7
    tokens = BudgetLaw(KAPLAN).best_tokens(size, served)
    assert tokens is not None
    of_size = (0.1 / 0.12) * (1e12 / size) ** (0.1 / 0.12)
    assert (1 + served / (3 * tokens)) * 2e13 / tokens == pytest.approx(of_size, rel=1e-4)


@pytest.mark.parametrize("name", LAWS)
def test_best_size_and_best_tokens_are_one_optimum_from_both_sides(name) -> None:
    known = BudgetLaw(LAWS[name])
    found = known.best(tokens_on(1e17), BOUNDS)
    assert known.best_tokens(found.num_params) == pytest.approx(found.num_tokens, rel=1e-3)
    around = [known.curve.loss(found.num_params * f, found.num_tokens / f) for f in (0.97, 1.03)]
    assert all(loss > found.loss for loss in around)


def test_a_quadratic_law_has_the_optimum_of_its_parabola() -> None:
    c = QUADRATIC.coefficients
    total = math.log(1e17 / 6)  # d = total - n along the budget: a parabola in n
    curvature = c["c_nn"] - c["c_nd"] + c["c_dd"]
    slope = c["c_n"] - c["c_d"] + c["c_nd"] * total - 2 * c["c_dd"] * total
    known = BudgetLaw(QUADRATIC)
    found = known.best(tokens_on(1e17), BOUNDS)
    assert math.log(found.num_params) == pytest.approx(-slope / (2 * curvature), abs=1e-4)
    exponent = (2 * c["c_dd"] - c["c_nd"]) / (2 * curvature)
    assert known.size_exponent(tokens_on(1e17), BOUNDS) == pytest.approx(exponent, abs=1e-4)


@pytest.mark.parametrize("name", LAWS)
def test_intervals_hold_the_best_size(name) -> None:
    known = BudgetLaw(LAWS[name])
    found = known.best(tokens_on(1e17), BOUNDS)
    intervals = known.intervals(tokens_on(1e17), found, BOUNDS)
    assert intervals is not None
    assert intervals.size_95[0] < intervals.size_80[0] < found.num_params < intervals.size_80[1]
    assert intervals.tokens_80[0] < found.num_tokens < intervals.tokens_80[1] < intervals.tokens_95[1]


def test_new_tokens_and_dense_models_are_what_a_gpt_of_the_dial_has() -> None:
    plain = {"E": 1.7, "A": 120.0, "B": 300.0, "alpha": 0.3, "beta": 0.3}
    repeated = BudgetLaw(law_of("repeated", {**plain, "R_D": 15.0, "R_N": 5.0}))
    mixture = BudgetLaw(
        law_of("mixture", {"E": 1.2, "A": 100.0, "B": 300.0, "C": 0.5, "G": 20.0, "alpha": 0.3, "beta": 0.3,
                           "lambda": 0.2, "delta": 0.1, "gamma": 0.3})
    )  # fmt: skip
    for known in (repeated, mixture):
        assert known.curve.loss(1e7, 1e9) == pytest.approx(1.7 + 120 / 1e7**0.3 + 300 / 1e9**0.3)
        prediction = known.prediction(1e7, 1e9)
        assert prediction is not None
        assert prediction.loss == pytest.approx(known.curve.loss(1e7, 1e9))


def test_a_published_law_has_no_intervals() -> None:
    known = BudgetLaw(published_law("besiroglu"))
    found = known.best(tokens_on(1e21), (1e6, 1e12))
    assert known.prediction(1e9, 2e10) is None
    assert known.intervals(tokens_on(1e21), found, (1e6, 1e12)) is None
    assert found.num_params == pytest.approx(optimum(known.formula, 1e21).num_params, rel=1e-4)


def test_a_law_of_one_variable_or_of_accuracies_is_refused() -> None:
    with pytest.raises(UsageError, match="'power_C' does not weigh size against tokens: no size is best"):
        BudgetLaw(law_of("power_C", {"E": 1.7, "A": 90.0, "alpha": 0.1}))
    right = {"h": 2.0, "a": 300.0, "b": 500.0, "alpha": 0.3, "beta": 0.3}
    with pytest.raises(UsageError, match="this law is of accuracies"):
        BudgetLaw(law_of("accuracy", right, unit="accuracy"))
    flat = {"E": 1.7, "A": 120.0, "B": 300.0, "alpha": 0.3, "beta": -0.1}
    with pytest.raises(UsageError, match="This law has no optimum: its beta must be positive"):
        BudgetLaw(law_of("chinchilla", flat))


def test_a_law_that_falls_without_end_is_refused() -> None:
    falls = {"c_0": 5.0, "c_n": -0.1, "c_d": 0.1, "c_nn": -0.01, "c_nd": 0.0, "c_dd": -0.01}
    known = BudgetLaw(law_of("quadratic", falls))
    with pytest.raises(UsageError, match="Under this law no size is best on this budget"):
        known.best(tokens_on(1e17), (1.0, 1e18))
    assert known.size_exponent(tokens_on(1e17), (1.0, 1e18)) is None
    flat = {"c_0": 1.0, "c_n": -0.1, "c_d": 0.0, "c_nn": 0.0, "c_nd": 0.0, "c_dd": 0.0}
    assert BudgetLaw(law_of("quadratic", flat)).best_tokens(1e6) is None


CPU = find_device("cpu")


def found_on(law: Law, **limits):
    return find(Budget(**limits), device=CPU, usage=Usage(), vocab_size=1024, context=128, law=law)


@pytest.mark.parametrize("name", LAWS)
def test_a_budget_under_any_form_says_which_and_how_sure(name) -> None:
    answer = found_on(LAWS[name], flops=1e16)
    assert answer.intervals is not None
    assert answer.best.interval_80 is not None
    assert any(f"of form {name}" in one for one in answer.assumptions)
    size = answer.best.num_params.total
    assert answer.intervals.size_80[0] / 1.2 < size < answer.intervals.size_80[1] * 1.2
    losses = [choice.loss for choice in answer.near]
    assert min(losses) == losses[3]
    assert answer.flat[0].num_params[0] > answer.flat[1].num_params[0]


def test_memory_alone_takes_the_best_tokens_of_the_form() -> None:
    answer = found_on(TIED, memory_bytes=2e9)
    size = answer.best.num_params.total
    assert answer.best.num_tokens == pytest.approx(BudgetLaw(TIED).best_tokens(size), rel=1e-3)
    falls = {"c_0": 1.0, "c_n": -0.1, "c_d": 0.0, "c_nn": 0.0, "c_nd": 0.0, "c_dd": 0.0}
    with pytest.raises(UsageError, match="no number of tokens is best for"):
        found_on(law_of("quadratic", falls), memory_bytes=2e9)


def test_the_loss_of_an_average_is_the_averages() -> None:
    random = np.random.default_rng(1)
    rows = [
        Row(run=f"{n}-{d:g}", trunk=f"{n}-{d:g}", num_tokens=d, num_params=ParamCount(embedding=0, body=n, head=0),
            loss=float((1.7 + 120 / n**0.3 + 300 / d**0.3) * np.exp(random.normal(0, 0.004))))
        for n in (30_000, 100_000, 300_000, 1_000_000, 3_000_000) for d in (1e6, 4e6, 1.6e7, 6.4e7)
    ]  # fmt: skip
    law = fit_auto(rows, num_bootstrap=100)
    answer = found_on(law, flops=1e15)
    said = law.predict(answer.best.num_params.total, answer.best.num_tokens, flops=None)
    assert law.average is not None
    assert answer.best.loss == pytest.approx(said.loss)
    assert answer.best.interval_80 == pytest.approx(said.interval_80)
