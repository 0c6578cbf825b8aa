import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from kleiber.tasks.intervals import half_width, mean_estimate, ratio_estimate, share_estimate, wilson


@given(num=st.integers(1, 100_000), share=st.floats(0, 1))
def test_wilson_is_that_of_statsmodels(num, share):
    count = round(share * num)
    interval = wilson(count / num, num)
    low, high = proportion_confint(count, num, method="wilson")
    assert interval.low == pytest.approx(max(0, low), abs=1e-12)
    assert interval.high == pytest.approx(min(1, high), abs=1e-12)
    assert 0 <= interval.low <= interval.value <= interval.high <= 1


def test_no_share_is_a_point():
    """100 right of 100 do not prove that the next is."""
    assert wilson(1.0, 100).low == pytest.approx(100 / (100 + 1.959964**2), rel=1e-6)
    assert wilson(0.0, 100).high == pytest.approx(1 - 100 / (100 + 1.959964**2), rel=1e-6)


def test_a_mean_of_hits_has_wilsons_interval():
    hits = np.array([1.0] * 30 + [0.0] * 10)
    estimate = share_estimate(0.75, (hits - 0.75) / 40, num_at_bounds=1)
    assert estimate == wilson(0.75, 40).model_copy(update={"low": estimate.low, "high": estimate.high})
    assert (estimate.low, estimate.high) == pytest.approx((wilson(0.75, 40).low, wilson(0.75, 40).high))
    assert share_estimate(1.0, np.zeros(40), num_at_bounds=40) == wilson(1.0, 40)


def test_a_mean_by_hand():
    estimate = mean_estimate(np.array([1.0, 2.0, 3.0, 6.0]))
    reach = 1.959964 * math.sqrt((4 + 1 + 0 + 9) / 3 / 4)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx(
        (3.0, 3.0 - reach, 3.0 + reach), rel=1e-6
    )
    assert math.isnan(half_width(np.array([5.0])))
    assert mean_estimate(np.array([5.0])).high == 5.0


def test_a_ratio_by_hand():
    ratio, reach = ratio_estimate(np.array([2.0, 9.0, 4.0]), np.array([1.0, 3.0, 1.0]))
    assert ratio == 3.0
    assert reach == pytest.approx(1.959964 * math.sqrt((1 + 0 + 1) * 3 / 2) / 5, rel=1e-6)
    assert math.isnan(ratio_estimate(np.array([2.0]), np.array([1.0]))[1])
