import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kleiber.study.growing.spikes import count_spikes
from kleiber.study.growing.trend import contrast, fit_trend, sd_estimate, share_estimate

SIZES = [1e4, 2e4, 5e4, 1e5, 3e5]


def test_a_trend_is_least_squares_in_logs_with_students_interval():
    # y = log10 value at x = 0, 1, 2: slope 1 and residuals 1/6, -1/3, 1/6, worked by hand.
    values = [10**0.0, 10**0.5, 10**2.0]
    trend = fit_trend("both", [1.0, 10.0, 100.0], values)
    assert trend.slope.value == pytest.approx(1.0)
    assert trend.scatter == pytest.approx(math.sqrt(1 / 36 + 1 / 9 + 1 / 36))
    assert trend.standard_error == pytest.approx(trend.scatter / math.sqrt(2))
    # Student's t of one degree of freedom at 97.5% is 12.706.
    assert trend.slope.high - 1 == pytest.approx(12.706 * trend.standard_error, rel=1e-4)
    assert not trend.has_trend
    assert trend.at(10.0) == pytest.approx(10 ** (np.mean([0, 0.5, 2])))


@given(exponent=st.floats(-2, 2), level=st.floats(1e-3, 1e3))
def test_an_exact_power_law_is_found(exponent, level):
    trend = fit_trend("depth", SIZES, [level * size**exponent for size in SIZES])
    assert trend.kind == "power"
    assert trend.slope.value == pytest.approx(exponent, abs=1e-6)
    assert trend.tenfold().value == pytest.approx(10**exponent, rel=1e-5)
    assert trend.decades == pytest.approx(math.log10(30))


def test_the_interval_holds_the_truth_as_often_as_it_says():
    rng, held = np.random.default_rng(0), 0
    for _ in range(400):
        values = [size**0.5 * 10 ** rng.normal(0, 0.1) for size in SIZES]
        slope = fit_trend("both", SIZES, values).slope
        held += slope.low <= 0.5 <= slope.high
    assert 0.92 <= held / 400 <= 0.98


def test_values_that_are_not_positive_get_a_straight_line():
    trend = fit_trend("both", [1e3, 1e4, 1e5], [-0.1, 0.1, 0.3])
    assert trend.kind == "per_decade"
    assert trend.tenfold().value == pytest.approx(0.2)
    assert trend.has_trend
    assert trend.at(1e6) == pytest.approx(0.5)


def test_two_sizes_are_no_trend():
    assert fit_trend("both", [1e3, 1e4], [1.0, 2.0]) is None


def test_depth_and_width_are_compared_by_the_scatter_of_both():
    rng = np.random.default_rng(1)
    steep = fit_trend("depth", SIZES, [size**1.0 * 10 ** rng.normal(0, 0.01) for size in SIZES])
    flat = fit_trend("width", SIZES, [size**0.2 * 10 ** rng.normal(0, 0.01) for size in SIZES])
    found = contrast(steep, flat)
    assert found.differs
    assert found.difference.value == pytest.approx(0.8, abs=0.05)
    loose = fit_trend("width", SIZES, [size**0.9 * 10 ** rng.normal(0, 0.5) for size in SIZES])
    assert not contrast(steep, loose).differs
    assert contrast(steep, None) is None


def test_intervals_of_deviations_and_rare_events():
    # chi-square of 2 degrees of freedom: 97.5% is 7.378, 2.5% is 0.0506.
    found = sd_estimate([1.0, 2.0, 3.0])
    assert (found.low, found.high) == pytest.approx((math.sqrt(2 / 7.378), math.sqrt(2 / 0.05064)), rel=1e-3)
    # No event: the upper bound is 3.689 / n, the 97.5% point of the exponential.
    assert share_estimate(0, 1000).high == pytest.approx(3.689e-3, rel=1e-3)
    three = share_estimate(3, 1000)
    assert (three.low, three.high) == pytest.approx((0.6187e-3, 8.767e-3), rel=1e-3)


def test_spikes_stand_above_the_noise_before_them():
    rng = np.random.default_rng(0)
    losses = list(3 - 0.002 * np.arange(400) + rng.normal(0, 0.05, 400))
    assert count_spikes(losses)[0] <= 1
    losses[200] += 1.0
    losses[300] -= 1.0  # a fall is none
    assert count_spikes(losses)[0] >= 1
    assert count_spikes(losses)[1] == 400 - 32
    assert count_spikes(losses[:32]) == (0, 0)


def test_values_with_errors_show_no_exact_slope():
    sizes = [1e3, 1e4, 1e5]
    alike = fit_trend("depth", sizes, [2.0, 2.0, 2.0], [0.2] * 3)

    # x = -1, 0, 1 about the middle: the slope's error is that of a value over the root of two.
    assert alike.standard_error == pytest.approx(0.2 / math.sqrt(2), rel=1e-6)
    assert alike.slope.high == pytest.approx(12.706 * 0.2 / math.sqrt(2), rel=1e-4)
    assert fit_trend("depth", sizes, [2.0, 2.0, 2.0], [None] * 3).standard_error == 1e-9


def test_scatter_beyond_the_errors_counts():
    values = [1.0, 30.0, 2.0]

    assert fit_trend("both", [1e3, 1e4, 1e5], values, [0.004] * 3) == fit_trend(
        "both", [1e3, 1e4, 1e5], values
    )


def test_a_line_that_bends_tells_the_slope_of_its_larger_half():
    sizes = [10.0**k for k in range(7)]
    # log10 of the values: slope -1 to the middle, -0.25 from there on; the larger half is the last four sizes.
    bent = fit_trend("both", sizes, [10**-y for y in (0, 1, 2, 3, 3.25, 3.5, 3.75)])
    straight = fit_trend("both", sizes, [10**-y for y in (0, 1.1, 1.9, 3, 4.1, 4.9, 6)])
    loose = fit_trend("both", sizes, [10**-y for y in (0, 1, 2, 3, 3.25, 3.5, 3.75)], [2.0] * 7)

    assert bent.upper_exponent.value == pytest.approx(-0.25)
    assert straight.upper_exponent is None
    # 10^-3 at 10^3, and from there on a quarter of a decade less a decade.
    assert bent.upper.at(1e3) == pytest.approx(1e-3)
    assert bent.upper.at(1e5) == pytest.approx(10**-3.5)
    assert (bent.upper.low_params, bent.upper.high_params) == (1e3, 1e6)
    assert bent.upper.tenfold().value == pytest.approx(10**-0.25)
    assert straight.upper is None
    assert loose.upper_exponent is None


def test_a_larger_half_without_a_trend_is_no_line():
    sizes = [10.0**k for k in range(8)]
    flat = fit_trend("both", sizes, [10**-y for y in (0, 1, 2, 3, 3.3, 3.1, 3.2, 3.25)])

    assert flat.upper_exponent.low < 0 < flat.upper_exponent.high
    assert flat.upper is None


def test_wide_intervals_say_nothing():
    # Seven sizes a tenth apart: t(5) x 2 x 0.5 / sqrt(28 x 0.01) in log10 is 4.9, that is far above a factor 30.
    sizes = [10 ** (k / 10) for k in range(7)]

    assert fit_trend("both", sizes, [1.0] * 7, [0.5] * 7).is_empty
    assert not fit_trend("both", sizes, [1.0] * 7).is_empty
    assert not fit_trend("both", sizes[:4], [1.0] * 4).is_empty  # four exact sizes say it


def test_a_kind_that_is_given_is_kept():
    trend = fit_trend("width", [1e3, 1e4, 1e5], [0.1, 0.2, 0.3], kind="per_decade")

    assert trend.kind == "per_decade"
    assert trend.slope.value == pytest.approx(0.1)
