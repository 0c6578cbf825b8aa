"""Where two routes cost the same, and which is cheapest in how many draws: by hand."""

from __future__ import annotations

import numpy as np
import pytest

from kleiber.scaling import published_law
from kleiber.study.advice.compare import break_even, cheapest_fracs, elsewhere
from kleiber.study.advice.drawn import Drawn, Speeds, amount_of, cost_of, drawn_of
from kleiber.study.advice.losses import Losses
from kleiber.study.advice.meter import Meter
from kleiber.study.advice.search import Plan, Search, sizes_of
from kleiber.study.advice.spread import Spread, normals
from kleiber.study.advice.ways import PUBLISHED_COMPRESSION, Start, Way, grown, optimum_way, smaller_way

FLOPS = Meter("flops")


def route(sums, size: float, tokens: float, factors=(1.0,), title: str = "one") -> Drawn:
    """A size that trains on so many tokens, and on so many times as many in each draw."""
    way = Way("optimum", title, "by hand")
    sized = sums.chosen(size)
    tokens_B = tokens * np.array(factors)
    return Drawn(
        plan=Plan(way, sized, tokens, 0.0, FLOPS.amount(sized.training), FLOPS.amount(sized.serving(way.served))),
        tokens_B=tokens_B, saving_B=np.zeros(len(factors)), rise_B=np.zeros(len(factors)),
        train_flops_B=tokens_B * sized.training.flops, train_s_B=tokens_B * sized.training.device_s,
        serve_flops_B=np.full(len(tokens_B), 2 * size), serve_s_B=np.full(len(tokens_B), 2 * size / 5e13),
    )  # fmt: skip


def test_two_routes_cost_the_same_where_serving_has_paid_for_training(sums):
    # 6 x 1e9 x 5e10 = 3e20 and 6 x 2e9 x 1e10 = 1.2e20; 2e9 operations less for each served token
    small, large = (
        route(sums, 1e9, 5e10, (1.0, 1.5, 0.1), "small"),
        route(sums, 2e9, 1e10, (1.0,) * 3, "large"),
    )
    found = break_even(small, large, FLOPS)
    assert found.first_wins == "above"
    assert found.served_tokens.value == pytest.approx(9e10)
    # 4.5e20 of training in the second draw; less than the other's in the third, where it always wins
    assert found.served_tokens.interval_95 == pytest.approx((0.0, 1.65e11))
    assert found.none_frac == pytest.approx(1 / 3)
    other_way = break_even(large, small, FLOPS)
    assert (other_way.first_wins, other_way.served_tokens.value) == ("below", pytest.approx(9e10))
    assert other_way.served_tokens.interval_95 == pytest.approx((0.0, 1.65e11))


def test_a_route_that_can_no_longer_win_waits_for_ever(sums):
    # the larger one never reaches the loss in one draw, the smaller one not in another, neither in the last
    never = np.inf
    small = route(sums, 1e9, 5e10, (1.0, 1.0, never, never), "small")
    large = route(sums, 2e9, 1e10, (1.0, never, 1.0, never), "large")
    found = break_even(small, large, FLOPS)
    assert found.served_tokens.interval_95 == (0.0, None)
    assert found.none_frac == pytest.approx(0.75)


def test_a_route_that_is_cheaper_in_both_always_wins(sums):
    found = break_even(route(sums, 1e9, 1e9), route(sums, 2e9, 1e10), FLOPS)
    assert (found.first_wins, found.served_tokens, found.none_frac) == ("always", None, 1.0)


def test_the_cheapest_is_counted_draw_by_draw(sums):
    routes = [
        route(sums, 1e9, 1e10, (1.0, 1.0, 9.0, np.inf)),
        route(sums, 1e9, 2e10, (1.0, 0.1, 1.0, np.inf)),
    ]
    assert cheapest_fracs(routes, 0.0, FLOPS) == (0.25, 0.5)


def test_amounts_have_no_interval_where_nothing_is_uncertain_and_no_end_where_draws_have_none():
    assert amount_of(2.0, np.full(9, 2.0)).interval_80 is None
    draws = np.array([*range(1, 19), np.inf, np.inf], dtype=float)
    assert amount_of(9.0, draws).interval_80 == (2.0, 18.0)
    assert amount_of(9.0, draws).interval_95 == (1.0, None)


def test_costs_in_every_unit_are_sums(sums):
    drawn = route(sums, 1e9, 1e10)
    found = cost_of(drawn, Meter("usd", 4, 3.6), trains=True, served_tokens=1e9)
    assert found.flops.value == pytest.approx(6e19 + 2e18)
    # 6e5 s of training at 1e14 and 4e4 s of serving at 5e13 a second, on four devices at 0.001 USD a second each
    assert found.time_s.value == pytest.approx(6.4e5 / 4)
    assert found.usd.value == pytest.approx(640)
    assert cost_of(drawn, Meter("s"), trains=False, served_tokens=1e9).usd is None


def test_draws_of_speed_move_all_routes_alike(make_law, sums):
    losses, speeds = Losses.of(published_law("besiroglu")), Speeds(0.2, 0.4, "")
    search = Search(losses, sums, FLOPS, (57e6, 16e9))
    first, second = (
        drawn_of(search.plan(way, 2.2, 1e12), losses, 2.2, speeds) for way in (optimum_way(), smaller_way())
    )
    ratio = first.train_s_B / second.train_s_B
    assert np.ptp(ratio) < 1e-9 * ratio.mean()
    assert np.log(first.train_s_B).std() == pytest.approx(0.2, rel=0.02)
    assert np.log(first.serve_s_B).std() == pytest.approx(0.4, rel=0.02)
    assert first.unreached_frac == 0


def test_growth_and_compression_are_drawn_within_their_ranges(make_law, sums):
    law = make_law()
    losses = Losses.of(law)
    search = Search(losses, sums, FLOPS, sizes_of(law))
    way = grown(Start("small", 1e8, 2.41, 1e18))
    saving = drawn_of(search.plan(way, 2.4, 1e12), losses, 2.4, Speeds(0, 0, "")).saving_B
    assert (saving.min() >= 0.33, saving.max() <= 0.47, saving.mean()) == (
        True,
        True,
        pytest.approx(0.40, abs=0.01),
    )
    rise = drawn_of(search.plan(PUBLISHED_COMPRESSION, 2.4, 1e12), losses, 2.4, Speeds(0, 0, "")).rise_B
    assert (np.exp(rise.min()), np.exp(rise.max())) == pytest.approx((1.011, 1.073), abs=1e-3)


def test_a_spread_is_that_of_its_interval():
    draws = Spread(1.0, 0.9, 1.1).draws(400, 3)
    assert np.quantile(draws, (0.025, 0.975)) == pytest.approx([0.9, 1.1], abs=0.005)
    assert not np.array_equal(normals(9, 1), normals(9, 2))


def test_elsewhere_sizes_are_sought_anew(make_law, sums):
    law = make_law()
    search = Search(Losses.of(law), sums, FLOPS, sizes_of(law))
    found = list(elsewhere(search, [smaller_way()], 2.4, 1e12))
    assert [one.served_tokens for one in found][3:6] == [1e11, 1e12, 1e13]
    assert np.all(np.diff([one.num_params for one in found]) < 0)
    assert next(elsewhere(search, [smaller_way()], 2.4, 0.0)).served_tokens == 1e9
