import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kleiber.study.tuning.search import parabola_minimum, search_powers


@given(st.floats(-6, 6), st.integers(-3, 3))
def test_a_parabola_is_found_wherever_it_stands(minimum, start):
    found = search_powers(lambda power: 2 + (power - minimum) ** 2, start=start, max_trials=30)
    assert found.best == pytest.approx(minimum, abs=1e-6)
    assert found.is_bracketed
    assert abs(found.best_power - minimum) <= 0.5 + 1e-9
    assert len(found.losses) <= abs(round(minimum) - start) + 4


def test_the_search_stops_when_its_trials_are_spent():
    asked = []

    def loss_at(power):
        asked.append(power)
        return -power

    found = search_powers(loss_at, max_trials=5)
    assert asked == [0, 1, -1, 2, 3]
    assert (found.best, found.best_power, found.is_bracketed, found.loss) == (3.0, 3, False, -3)


def test_rates_that_diverge_lie_on_the_far_side():
    found = search_powers(lambda power: math.inf if power > 0 else 1 - power / 10, max_trials=6)
    assert (found.best_power, found.best, found.is_bracketed) == (0, 0.0, True)


def test_where_all_diverge_nothing_is_bracketed():
    found = search_powers(lambda _: math.inf, max_trials=4)
    assert not found.is_bracketed
    assert math.isinf(found.loss)


def test_a_flat_valley_keeps_its_grid_point():
    assert parabola_minimum({-1: 1.0, 0: 1.0, 1: 1.0}) == -1.0


def test_where_all_diverge_the_search_goes_down():
    found = search_powers(lambda power: math.inf if power > -4 else (power + 5.5) ** 2, max_trials=12)
    assert found.best_power in {-5, -6}
    assert found.is_bracketed
    assert len(search_powers(lambda _: math.inf, max_trials=7).losses) == 7
