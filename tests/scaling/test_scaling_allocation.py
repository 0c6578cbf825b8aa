from __future__ import annotations

import math

import numpy as np
import pytest

from kleiber.errors import UsageError
from kleiber.runs import ParamCount, Row
from kleiber.scaling import ALLOCATORS, Coefficients, allocations, optimum, size_exponents
from kleiber.scaling.allocation import isoflop_slices

LAW = Coefficients(E=1.8, A=480.0, B=2000.0, alpha=0.35, beta=0.37)
BUDGETS = (1e18, 1e19, 1e20, 1e21)


def sweep(noise: float = 0.0, shift: float = 1.0) -> list[Row]:
    """Return nine sizes around the optimum of each budget, or around `shift` times it."""
    random, rows = np.random.default_rng(0), []
    for flops in BUDGETS:
        best = optimum(LAW, flops).num_params * shift
        for factor in np.geomspace(0.3, 3.0, 9):
            size = round(best * factor)
            tokens = flops / 6 / size
            loss = LAW.loss(size, tokens) * math.exp(random.normal(0, noise))
            name = f"{flops:g}-{size}"
            count = ParamCount(embedding=0, body=size, head=0)
            rows.append(Row(run=name, trunk=name, num_params=count, num_tokens=tokens, loss=loss))
    return rows


@pytest.fixture(scope="module")
def found():
    return {one.estimator: one for one in allocations(sweep(noise=0.001), [1e22], num_bootstrap=100)}


def test_every_estimator_finds_the_exponent_of_a_centred_sweep(found):
    assert list(found) == list(ALLOCATORS)
    for one in found.values():
        assert one.size_exponent == pytest.approx(LAW.size_exponent, abs=0.03), one.estimator
        low, high = one.size_exponent_80
        assert low <= one.size_exponent <= high
        (budget,) = one.budgets
        assert budget.num_params == pytest.approx(optimum(LAW, 1e22).num_params, rel=0.3)
        assert budget.num_tokens == pytest.approx(1e22 / 6 / budget.num_params)
        assert budget.num_params_80[0] < budget.num_params < budget.num_params_80[1]


def test_what_gives_a_law_gives_it(found):
    assert {name for name, one in found.items() if one.law} == {"projection", "approach3"}
    assert found["approach3"].law.estimator == "approach3"
    assert found["approach3"].law.coefficients == pytest.approx(
        found["projection"].law.coefficients, rel=1e-3
    )


def test_biases_are_told(found):
    assert "is biased" in found["approach2"].notes[0]
    assert "jumps between them" in found["approach1"].notes[0]


def test_approach_2_is_off_where_the_slices_are_not_centred():
    def error(shift):
        (one,) = allocations(sweep(shift=shift), [1e24], estimators=["approach2"], num_bootstrap=20)
        return abs(math.log(one.budgets[0].num_params / optimum(LAW, 1e24).num_params))

    assert error(2.0) > 2 * error(1.0)


def test_rows_without_slices_say_so(ladder):
    found = {one.estimator: one for one in allocations(ladder(), [1e15], num_bootstrap=100)}
    assert "needs at least 3 budgets at each of which 4 sizes" in found["approach2"].notes[0]
    assert math.isnan(found["approach2"].size_exponent)
    assert found["projection"].budgets


def test_slices_hold_what_costs_nearly_the_same():
    rows = sweep()
    log_c = np.log([6 * row.num_params.total * row.num_tokens for row in rows])
    log_n = np.log([row.num_params.total for row in rows])
    parts = isoflop_slices(log_c, log_n)
    assert [len(part) for part in parts] == [9, 9, 9, 9]


def test_what_is_asked_is_checked():
    with pytest.raises(UsageError, match=r"'approach4' is not an estimator\. Known: projection, approach1"):
        allocations(sweep(), [1e21], estimators=["approach4"])
    with pytest.raises(UsageError, match=r"must be a positive number\. Got 0\.0"):
        allocations(sweep(), [0.0])


def test_the_exponent_moves_with_what_n_counts(ladder):
    # The same share of every size is embedding: counting it or not moves A, and no exponent.
    found = size_exponents(ladder())
    assert list(found) == ["total", "body", "matmul"]
    assert found["body"] == pytest.approx(found["total"], abs=0.01)
    # An embedding of one size for all makes small models look larger than their bodies.
    fixed = [
        row.model_copy(
            update={"num_params": ParamCount(embedding=100_000, body=row.num_params.total, head=0)}
        )
        for row in ladder()
    ]
    moved = size_exponents(fixed)
    assert list(moved) == ["total", "body"]
    assert abs(moved["total"] - moved["body"]) > 0.05
