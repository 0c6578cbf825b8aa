from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kleiber.errors import UsageError
from kleiber.scaling import fit
from kleiber.scaling.optimum import (
    best_along,
    best_tokens,
    optimum,
    optimum_intervals,
    sizes_within,
)
from kleiber.scaling.published import PUBLISHED_LAWS, Coefficients, published_law

BESIROGLU = PUBLISHED_LAWS["besiroglu"].coefficients
SARDANA = Coefficients(E=1.69, A=406.4, B=410.7, alpha=0.336, beta=0.283)
"""Chinchilla's law with the third decimal of its exponents (de Vries 2023), which that paper's figures follow from."""

laws = st.builds(
    Coefficients,
    E=st.floats(0.5, 2),
    A=st.floats(10, 5000),
    B=st.floats(10, 5000),
    alpha=st.floats(0.2, 0.6),
    beta=st.floats(0.2, 0.6),
)
budgets = st.floats(15, 26).map(lambda exponent: 10.0**exponent)


def test_besiroglu_grows_size_and_tokens_alike() -> None:
    assert BESIROGLU.size_exponent == pytest.approx(0.513, abs=5e-4)  # the paper: 0.513 with error 0.018


def test_chinchilla_budget_gives_chinchilla() -> None:
    # Hoffmann et al., table 3: 67 B and 1.5 T tokens for 5.76e23 by approach 1; they trained 70 B on 1.4 T.
    found = optimum(BESIROGLU, 5.76e23)
    assert found.num_params == pytest.approx(70e9, rel=0.05)
    assert found.num_tokens == pytest.approx(1.4e12, rel=0.06)
    assert 18 < found.num_tokens / found.num_params < 19
    assert found.loss == pytest.approx(1.8172 + 482.01 / 72.2e9**0.3478 + 2085.43 / 1.33e12**0.3658, abs=1e-4)


def test_rounded_chinchilla_wants_far_more_tokens() -> None:
    found = optimum(PUBLISHED_LAWS["hoffmann"].coefficients, 5.88e23)
    assert found.num_tokens / found.num_params == pytest.approx(93, rel=0.02)


def test_a_symmetric_law_splits_evenly() -> None:
    found = optimum(Coefficients(E=1.0, A=100.0, B=100.0, alpha=0.5, beta=0.5), 6e12)
    assert (found.num_params, found.num_tokens) == pytest.approx((1e6, 1e6))
    assert found.loss == pytest.approx(1.2)


@given(laws, budgets)
def test_the_closed_form_spends_the_budget_where_the_marginal_gains_are_equal(law, flops) -> None:
    found = optimum(law, flops)
    assert 6 * found.num_params * found.num_tokens == pytest.approx(flops)
    assert law.alpha * law.A * found.num_params**-law.alpha == pytest.approx(
        law.beta * law.B * found.num_tokens**-law.beta
    )


@given(laws, budgets)
def test_the_search_agrees_with_the_closed_form(law, flops) -> None:
    exact = optimum(law, flops)
    found = best_along(law, lambda n: flops / 6 / n, exact.num_params / 1e4, exact.num_params * 1e3)
    assert found.loss == pytest.approx(exact.loss, rel=1e-12)
    assert found.num_params == pytest.approx(exact.num_params, rel=1e-3)


def test_the_best_size_may_be_the_smallest_there_is() -> None:
    found = best_along(BESIROGLU, lambda n: 1e18 / 6 / n, 1e9, 1e12)
    assert found.num_params == pytest.approx(1e9, rel=1e-6)


def test_a_budget_without_tokens() -> None:
    with pytest.raises(UsageError, match="buys no token at any size"):
        best_along(BESIROGLU, lambda n: -1.0, 1e6, 1e9)


@pytest.mark.parametrize("flops", [0.0, -1.0, math.nan, math.inf])
def test_a_budget_is_positive(flops) -> None:
    with pytest.raises(UsageError, match="compute budget must be a positive number"):
        optimum(BESIROGLU, flops)


@pytest.mark.parametrize(
    ("size", "served", "smaller", "times_tokens", "saved_frac"),
    [(30e9, 1e13, 13.6e9, 2.84, 0.28), (7e9, 1e11, 6e9, 1.18, None)],
)
def test_serving_moves_the_optimum_as_published(size, served, smaller, times_tokens, saved_frac) -> None:
    # Sardana et al. 2024, arXiv:2401.00448: a model as good as a compute-optimal one of 30 B that will serve 1e13
    # tokens has 13.6 B parameters, 2.84 times the tokens and 28% fewer operations; of 7 B and 1e11: 6 B, 1.18 times.
    tokens = best_tokens(SARDANA, size)
    quality = SARDANA.loss(size, tokens)
    plain = 6 * size * tokens + 2 * size * served
    low, high = 0.5 * plain, plain
    for _ in range(60):  # the budget at which the best run is just as good
        budget = (low + high) / 2
        found = best_along(SARDANA, lambda n, c=budget: (c - 2 * n * served) / (6 * n), 1e8, 1e12)
        low, high = (budget, high) if found.loss > quality else (low, budget)
    assert found.num_params == pytest.approx(smaller, rel=5e-3)
    assert found.num_tokens / tokens == pytest.approx(times_tokens, abs=5e-3)
    assert saved_frac is None or 1 - budget / plain == pytest.approx(saved_frac, abs=5e-3)


@given(laws, budgets, st.floats(0, 0.3))
def test_tokens_are_the_optimum_read_backwards(law, flops, served_frac) -> None:
    plain = optimum(law, flops)
    served = served_frac * flops / (2 * plain.num_params)
    found = best_along(
        law, lambda n: (flops - 2 * n * served) / (6 * n), plain.num_params / 1e4, plain.num_params * 10
    )
    assert best_tokens(law, found.num_params, served) == pytest.approx(found.num_tokens, rel=1e-2)
    assert found.num_params <= plain.num_params * 1.001
    assert found.num_tokens >= plain.num_tokens * 0.999  # smaller and longer


def test_serving_makes_the_model_smaller_and_trained_longer() -> None:
    plain = optimum(BESIROGLU, 1e22)
    found = best_along(BESIROGLU, lambda n: (1e22 - 2 * n * 1e12) / (6 * n), 1e6, 1e12)
    assert found.num_params < 0.6 * plain.num_params
    assert found.num_tokens > 1.2 * plain.num_tokens


@pytest.mark.parametrize("worse_frac", [0.001, 0.005])
def test_the_range_ends_where_the_loss_is_that_much_worse(worse_frac) -> None:
    best = optimum(BESIROGLU, 1e21)
    low, high = sizes_within(BESIROGLU, lambda n: 1e21 / 6 / n, best, worse_frac, (1e6, 1e13))
    assert low < best.num_params < high
    for size in (low, high):
        assert BESIROGLU.loss(size, 1e21 / 6 / size) / best.loss == pytest.approx(1 + worse_frac, rel=1e-6)


def test_the_range_ends_at_the_bounds() -> None:
    best = optimum(BESIROGLU, 1e21)
    bounds = (0.9 * best.num_params, 1.1 * best.num_params)
    assert sizes_within(BESIROGLU, lambda n: 1e21 / 6 / n, best, 0.005, bounds) == pytest.approx(bounds)


def test_one_sample_gives_its_own_optimum() -> None:
    exact = optimum(BESIROGLU, 1e21)
    sizes, tokens = optimum_intervals([BESIROGLU] * 3, lambda n: 1e21 / 6 / n, 1e6, 1e13)
    assert sizes["95"] == pytest.approx((exact.num_params,) * 2, rel=1e-3)
    assert tokens["80"] == pytest.approx((exact.num_tokens,) * 2, rel=1e-3)


def test_intervals_are_the_quantiles_of_the_samples_optima() -> None:
    random = np.random.default_rng(0)
    samples = [BESIROGLU._replace(alpha=a) for a in random.normal(0.35, 0.02, 300)]
    optima = [optimum(sample, 1e21).num_params for sample in samples]
    sizes, _ = optimum_intervals(samples, lambda n: 1e21 / 6 / n, 1e5, 1e14)
    assert sizes["80"] == pytest.approx(np.quantile(optima, [0.1, 0.9]), rel=1e-3)


def test_a_fitted_law_has_the_optimum_of_the_law_it_was_made_with(ladder) -> None:
    law = fit(ladder(), num_bootstrap=100)
    made = Coefficients(1.5, 43.3, 408.5, 0.3, 0.45)
    found = optimum(Coefficients.of(law), 1e12)
    assert found.num_params == pytest.approx(optimum(made, 1e12).num_params, rel=0.02)


def test_a_law_that_does_not_fall_has_no_optimum(law) -> None:
    flat = law.model_copy(update={"coefficients": law.coefficients | {"alpha": 0.0}})
    with pytest.raises(UsageError, match=r"no optimum: its alpha must be positive\. Got 0\.0"):
        Coefficients.of(flat)


def test_an_unknown_law_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"'besiroglou' is no published law\. Did you mean 'besiroglu'"):
        published_law("besiroglou")
