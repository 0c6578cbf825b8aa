import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kleiber.runs import ScheduleRecipe
from kleiber.train.schedule import rate


def test_rate_of_1_sqrt_by_hand():
    schedule = ScheduleRecipe(warmup_steps=2, cooldown_frac=0.3, cooldown_shape="1-sqrt")
    rates = [rate(step, 10, schedule) for step in range(10)]
    assert rates[:7] == [0.5, 1, 1, 1, 1, 1, 1]
    assert rates[7:] == pytest.approx([1 - math.sqrt(k / 4) for k in (1, 2, 3)])


@given(
    st.integers(10, 5000),
    st.integers(1, 5000),
    st.floats(0, 1),
    st.integers(0, 100),
    st.sampled_from(["linear", "1-sqrt"]),
)
def test_runs_of_any_horizon_share_their_trunk(horizon, extra, frac, warmup, shape):
    schedule = ScheduleRecipe(warmup_steps=warmup, cooldown_frac=frac, cooldown_shape=shape)
    start = schedule.cooldown_start(horizon)
    for step in {0, start // 2, max(start - 1, 0)} - ({0} if start == 0 else set()):
        assert rate(step, horizon, schedule) == rate(step, horizon + extra, schedule)


@given(st.integers(1, 3000), st.floats(0, 1), st.integers(0, 100), st.sampled_from(["linear", "1-sqrt"]))
def test_rate_stays_in_its_bounds_and_falls_to_the_end(num_steps, frac, warmup, shape):
    schedule = ScheduleRecipe(warmup_steps=warmup, cooldown_frac=frac, cooldown_shape=shape)
    rates = [rate(step, num_steps, schedule) for step in range(num_steps)]
    assert all(0 < value <= 1 for value in rates)
    fall = rates[max(schedule.cooldown_start(num_steps), warmup) :]
    assert fall == sorted(fall, reverse=True)
