"""Choosing by trials, worked by hand: who leads, who widens the interval, how far."""

from __future__ import annotations

import numpy as np
import pytest

from kleiber.scaling.choice import Choice, Rule, choose, quantile
from kleiber.scaling.trials import Trial, Trials


def _trial(num_rows: int, **off: tuple[float, ...]) -> Trial:
    """Return a trial whose laws are off by so much, with a variance of 0.01² each."""
    size = len(next(iter(off.values())))
    said = {name: (np.array(values), np.full(size, 1e-4)) for name, values in off.items()}
    return Trial(num_rows, np.zeros(size), said)


def _trials(*each: Trial) -> Trials:
    return Trials(10.0, each)


def test_the_least_error_leads_and_what_is_alike_is_a_rival():
    off = {"tied": (0.02, -0.02), "chinchilla": (0.04, 0.04), "quadratic": (0.07, 0.07)}
    choice = choose(_trials(_trial(10, **{name: 9 * values for name, values in off.items()})))
    assert choice is not None
    assert (choice.lead, choice.rivals) == ("tied", ("chinchilla",))
    assert choice.errors["quadratic"] == pytest.approx(0.07)


def test_trials_with_more_rows_count_more():
    """tied 0.1 and 0.01, quadratic 0.02 and 0.03: by rows 10 and 30 tied's typical error is 0.1^(1/4) 0.01^(3/4)."""
    each = (_trial(10, tied=(0.1,), quadratic=(0.02,)), _trial(30, tied=(0.01,), quadratic=(0.03,)))
    by_rows, alike = choose(_trials(*each)), choose(_trials(*each), Rule(rows_power=0.0))
    assert by_rows is not None
    assert alike is not None
    assert (by_rows.lead, alike.lead) == ("tied", "quadratic")
    assert by_rows.errors["tied"] == pytest.approx(0.1**0.25 * 0.01**0.75)
    assert alike.errors["tied"] == pytest.approx((0.1 * 0.01) ** 0.5)


def test_few_forecasts_may_be_right_by_luck():
    """Off by 0.01, 0.03 and 0.05 once: with the median as two more forecasts, sqrt((0.01² + 2 x 0.03²) / 3), 0.03 and sqrt((0.05² + 2 x 0.03²) / 3)."""
    once = {"tied": 0.01, "chinchilla": 0.03, "quadratic": 0.05}
    choice = choose(_trials(_trial(10, **{name: (off,) for name, off in once.items()})))
    assert choice is not None
    assert choice.errors == pytest.approx(once)
    reckoned = {name: np.sqrt((off**2 + 2 * 0.03**2) / 3) for name, off in once.items()}
    assert choice.reckoned == pytest.approx(reckoned)
    assert (choice.lead, choice.rivals) == ("tied", ("chinchilla", "quadratic"))
    often = choose(_trials(_trial(10, **{name: (off,) * 50 for name, off in once.items()})))
    assert often is not None
    assert often.rivals == ()
    assert often.reckoned["tied"] == pytest.approx(np.sqrt((50 * 0.01**2 + 2 * 0.03**2) / 52))


def test_a_form_that_misses_the_hard_cut_gains_nothing_by_it():
    """The frontier has twice tied's error where both are, and so overall."""
    choice = choose(_trials(_trial(10, tied=(0.2,)), _trial(10, tied=(0.01,), frontier=(0.02,))))
    assert choice is not None
    assert choice.lead == "tied"
    assert choice.errors["frontier"] == pytest.approx(2 * choice.errors["tied"])


def test_a_form_of_repeated_tokens_leads_or_is_out():
    choice = choose(_trials(_trial(10, tied=(0.02,), repeated=(0.021,))))
    assert choice is not None
    assert choice.rivals == ()


def test_another_may_be_told_to_lead():
    trials = _trials(_trial(10, tied=(0.02,), chinchilla=(0.04,), quadratic=(0.09,)))
    choice = choose(trials, lead="chinchilla")
    assert choice is not None
    assert (choice.lead, choice.rivals) == ("chinchilla", ("tied", "quadratic"))
    assert choose(trials, lead="frontier") is None


def test_without_trials_nothing_is_chosen():
    assert choose(Trials(None, ())) is None


def test_the_ratio_is_of_errors_over_deviations():
    """Five forecasts, each off by 0.03 but one by 0.3; deviation² = 0.01² + the typical error²."""
    off = (0.03, 0.03, 0.03, 0.03, 0.3)
    choice = choose(_trials(_trial(10, tied=off)))
    assert choice is not None
    error = np.sqrt(np.mean(np.square(off)))
    assert choice.ratio == pytest.approx(0.03 / np.hypot(0.01, error))


@pytest.mark.parametrize(
    ("num_trials", "expected"), [(1, 2.0), (3, 4 ** (3 / 4)), (1000, 4.0)], ids=["one", "three", "many"]
)
def test_few_trials_stay_near_what_public_ladders_needed(num_trials, expected):
    choice = Choice(lead="tied", rivals=(), errors={}, reckoned={}, ratio=4.0)
    assert choice.widening(1.0, num_trials, Rule()) == pytest.approx(expected, rel=2e-3)


def test_a_quantile_counts_weights():
    assert quantile(np.array([1.0, 2.0]), np.array([4.0, 1.0])) == 1.0
    assert quantile(np.array([1.0, 2.0]), np.array([3.0, 1.0])) == 2.0
