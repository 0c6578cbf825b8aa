"""Sizes of routes: as Sardana et al. found them, as the closed form of the optimum gives them, and back from a budget."""

from __future__ import annotations

import numpy as np
import pytest
from advice_examples import tokens_of

from kleiber.errors import UsageError
from kleiber.scaling import Coefficients, PublishedLaw, optimum
from kleiber.study.advice.losses import Losses
from kleiber.study.advice.meter import Meter
from kleiber.study.advice.search import Search, sizes_of
from kleiber.study.advice.served import Served
from kleiber.study.advice.spread import Spread
from kleiber.study.advice.ways import PUBLISHED_COMPRESSION, Start, Way, grown, optimum_way, smaller_way

HOFFMANN = PublishedLaw(
    name="hoffmann", title="as Sardana et al. took it", convention="total", fitted_params=(57e6, 16.2e9),
    coefficients=Coefficients(E=1.69, A=406.4, B=410.7, alpha=0.336, beta=0.283),
)  # fmt: skip


@pytest.fixture
def search(sums):
    return Search(Losses.of(HOFFMANN), sums, Meter("flops"), sizes_of(HOFFMANN))


def test_a_7b_serves_two_trillion_tokens_17_percent_cheaper_than_the_13b_of_its_quality(search):
    """Figure 1 of arXiv:2401.00448: 1.7e22 operations, 17%."""
    loss = 2.0452818
    ways = optimum_way(), smaller_way()
    large, small = (search.plan(way, loss, 2e12) for way in ways)
    assert large.sized.num_params == pytest.approx(13e9, rel=0.01)
    assert small.sized.num_params == pytest.approx(7e9, rel=0.01)
    assert large.total(2e12) == pytest.approx(6 * 13e9 * large.tokens + 2 * 13e9 * 2e12, rel=0.01)
    saved = large.total(2e12) - small.total(2e12)
    assert saved == pytest.approx(1.69e22, rel=0.01)
    assert saved / large.total(2e12) == pytest.approx(0.17, abs=0.01)


def test_without_serving_the_optimum_is_that_of_the_closed_form(search):
    best = optimum(HOFFMANN.coefficients, 1e22)
    for way in (optimum_way(), smaller_way()):
        plan = search.plan(way, best.loss, 0.0)
        assert plan.sized.num_params == pytest.approx(best.num_params, rel=0.01)
        assert plan.total(0.0) == pytest.approx(1e22, rel=1e-4)


def test_a_budget_buys_back_the_loss_that_costs_it(search):
    for way in (optimum_way(), smaller_way(), PUBLISHED_COMPRESSION):
        plan = search.plan(way, 2.1, 1e12)
        loss, sized = search.bought(way, plan.total(1e12), 1e12)
        assert loss == pytest.approx(2.1, abs=1e-4)
        assert sized.num_params == pytest.approx(plan.sized.num_params, rel=0.01)


def test_a_budget_that_serving_takes_buys_nothing(search):
    assert search.bought(smaller_way(), 1e15, 1e12) is None
    assert search.least_total(smaller_way(), 1e12) > 1e15


def test_what_compression_raises_is_trained_off_before_it(make_law, sums):
    law = make_law()
    way = Way(
        "compress",
        "compress",
        "by hand",
        rise=Spread.exact(0.05),
        train_factor=1.2,
        served=Served(flops_ratio=0.5),
    )
    search = Search(Losses.of(law), sums, Meter("flops"), sizes_of(law))
    plan = search.plan(way, 2.4, 1e12)
    size = plan.sized.num_params
    assert plan.tokens == pytest.approx(tokens_of(size, 2.35), rel=1e-6)
    assert plan.trained_tokens == pytest.approx(1.2 * plan.tokens)
    assert plan.total(1e12) == pytest.approx(6 * size * 1.2 * plan.tokens + 1e12 * size, rel=1e-9)


def test_growth_saves_what_papers_say_but_no_more_than_its_donor_knows(make_law, sums):
    law = make_law()
    search = Search(Losses.of(law), sums, Meter("flops"), sizes_of(law))
    good = search.plan(grown(Start("good", 1e8, 2.41, 1e18)), 2.4, 1e12)
    assert good.saving_frac == pytest.approx(0.40)
    poor = search.plan(grown(Start("poor", 1e8, 3.0, 1e18)), 2.4, 1e12)
    size = poor.sized.num_params
    assert poor.saving_frac == pytest.approx(tokens_of(size, 3.0) / tokens_of(size, 2.4), rel=1e-4)
    assert poor.saving_frac < 0.1


def test_nothing_grows_from_a_donor_that_is_larger(make_law, sums):
    law = make_law()
    search = Search(Losses.of(law), sums, Meter("flops"), sizes_of(law))
    assert search.plan(grown(Start("large", 1e12, 2.5, 1e22)), 2.4, 1e12) is None


def test_a_loss_below_the_floor_has_no_plan(search):
    assert search.plan(smaller_way(), 1.6, 1e12) is None
    assert search.lowest_loss() == pytest.approx(1.69, abs=0.03)


def test_sizes_that_are_none_of_the_laws_are_refused(make_law, sums):
    law = make_law()
    sums.low, sums.high = 1e3, 1e4
    with pytest.raises(
        UsageError, match="The sizes of a gpt here, 1e\\+03 to 1e\\+04 parameters, are not those of the law"
    ):
        Search(Losses.of(law), sums, Meter("flops"), sizes_of(law)).plan(smaller_way(), 2.4, 1e12)


def test_a_law_that_favours_no_size_is_refused(sums):
    flat = PublishedLaw(
        name="flat", title="no term of size worth the name", convention="total", fitted_params=(1e8, 1e9),
        coefficients=Coefficients(E=1.0, A=1e-12, B=2000.0, alpha=0.3, beta=0.37),
    )  # fmt: skip
    sums.low = 1.0
    search = Search(Losses.of(flat), sums, Meter("flops"), sizes_of(flat))
    with pytest.raises(
        UsageError, match="no size is best for a loss of 2: the cost still falls at 1e\\+04 parameters"
    ):
        search.plan(optimum_way(), 2.0, 0.0)


def test_more_served_tokens_want_smaller_models(search):
    sizes = [search.sought(smaller_way(), 2.1, tokens)[0] for tokens in (0.0, 1e11, 1e12, 1e13)]
    assert np.all(np.diff(sizes) < 0)
