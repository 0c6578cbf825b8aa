import math
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from kleiber.runs import ScheduleRecipe
from kleiber.train.schedule import rate

NAMES = ["wsd", "constant", "step", "cosine", "linear"]


def rates(num_steps, **keys):
    schedule = ScheduleRecipe(**keys)
    return [rate(step, num_steps, schedule) for step in range(num_steps)]


def torch_rates(num_steps, build):
    """Rates of a torch scheduler around a peak of 1, as a loop sees them that steps it after the optimizer."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, seen = build(optimizer), []
    for _ in range(num_steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        with (
            warnings.catch_warnings()
        ):  # SequentialLR passes an epoch to what it drives, which torch deprecates
            warnings.simplefilter("ignore", UserWarning)
            scheduler.step()
    return seen


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


@given(
    st.sampled_from(NAMES),
    st.integers(1, 3000),
    st.floats(0, 1),
    st.integers(0, 100),
    st.sampled_from(["linear", "1-sqrt"]),
)
def test_rate_stays_in_its_bounds_and_never_rises_after_the_warm_up(name, num_steps, frac, warmup, shape):
    own = {"cooldown_frac": frac, "cooldown_shape": shape} if name == "wsd" else {}
    seen = rates(num_steps, name=name, warmup_steps=warmup, **own)
    assert all(0 < value <= 1 for value in seen)
    assert seen[warmup:] == sorted(seen[warmup:], reverse=True)


def test_a_constant_rate_only_warms_up():
    assert rates(6, name="constant", warmup_steps=3) == pytest.approx([1 / 3, 2 / 3, 1, 1, 1, 1])
    assert rates(3, name="constant", warmup_steps=0) == [1, 1, 1]


@pytest.mark.parametrize("final", [0.0, 0.1])
@pytest.mark.parametrize("num_steps", [1, 20, 37])
def test_cosine_and_linear_are_torchs(num_steps, final):
    cosine = torch_rates(
        num_steps, lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=num_steps, eta_min=final)
    )
    assert rates(num_steps, name="cosine", warmup_steps=0, final_frac=final) == pytest.approx(cosine)
    linear = torch_rates(num_steps, lambda o: lr_scheduler.LinearLR(o, 1.0, final, total_iters=num_steps))
    assert rates(num_steps, name="linear", warmup_steps=0, final_frac=final) == pytest.approx(linear)


def test_cosine_after_a_warm_up_is_torchs_sequence():
    def build(optimizer):
        warm = lr_scheduler.LinearLR(optimizer, 0.25, 1.0, total_iters=3)
        fall = lr_scheduler.CosineAnnealingLR(optimizer, T_max=16)
        return lr_scheduler.SequentialLR(optimizer, [warm, fall], milestones=[4])

    assert rates(20, name="cosine", warmup_steps=4) == pytest.approx(torch_rates(20, build))


def test_steps_are_torchs():
    milestones = torch_rates(20, lambda o: lr_scheduler.MultiStepLR(o, [10, 15], gamma=0.1))
    assert rates(20, name="step", warmup_steps=0) == pytest.approx(milestones)
    seen = rates(20, name="step", warmup_steps=0, milestones=(0.3, 0.33, 0.8), gamma=0.5)
    assert seen == [1] * 6 + [0.5] * 1 + [0.25] * 9 + [0.125] * 4


@pytest.mark.parametrize("name", NAMES)
def test_a_warm_up_longer_than_the_run_rises_to_its_end(name):
    keys = {"wsd": {"cooldown_frac": 0.0}, "step": {"milestones": ()}}
    assert rates(4, name=name, warmup_steps=8, **keys.get(name, {})) == pytest.approx(
        [1 / 8, 2 / 8, 3 / 8, 4 / 8]
    )
