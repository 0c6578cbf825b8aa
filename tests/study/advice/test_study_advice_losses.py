"""Tokens that a size needs for a loss: as the law solved by hand says, in its point estimate and in each draw."""

from __future__ import annotations

import math

import numpy as np
import pytest
from advice_examples import ALPHA, BETA, A, B, loss_of, tokens_of

from kleiber.errors import UsageError
from kleiber.scaling import published_law
from kleiber.scaling.average import Average, Member
from kleiber.study.advice.losses import Losses


def test_tokens_are_those_of_the_law_solved_by_hand(make_law):
    losses = Losses.of(make_law())
    sizes = np.array([1e8, 1e9, 1e10])
    assert losses.tokens_at(sizes, 2.6) == pytest.approx([tokens_of(size, 2.6) for size in sizes], rel=1e-6)
    # 1e7 parameters alone leave 1.7 + 400 / 1e7^0.34 = 3.36
    assert losses.tokens_at(np.array([1e7]), 2.6)[0] == math.inf
    assert losses.point(1e9, 1e10) == pytest.approx(loss_of(1e9, 1e10))


def test_drawn_tokens_are_those_of_each_refit_with_its_shift(make_law):
    law = make_law()
    losses = Losses.of(law)
    found = losses.drawn_tokens(1e9, 2.6)
    e, a, b, alpha, beta = law.refits.T
    left = 2.6 / np.exp(losses.shift_B) - e - a / 1e9**alpha
    assert (left > 0).all()
    assert found == pytest.approx((b / left) ** (1 / beta), rel=1e-3)
    assert losses.shift_B.std() == pytest.approx(0.004, rel=0.02)


def test_a_draw_that_never_reaches_the_loss_is_infinite(make_law):
    assert np.isinf(Losses.of(make_law()).drawn_tokens(1e7, 2.0)).all()


def test_each_draw_may_have_a_loss_of_its_own(make_law):
    losses = Losses.of(make_law())
    lower, higher = losses.drawn_tokens(1e9, np.full(200, 2.5)), losses.drawn_tokens(1e9, np.full(200, 2.7))
    assert (lower > higher).all()


def test_a_published_law_has_one_opinion():
    losses = Losses.of(published_law("besiroglu"))
    assert np.ptp(losses.drawn_tokens(1e10, 2.2)) == 0
    assert losses.drawn_tokens(1e10, 2.2)[0] == pytest.approx(
        losses.tokens_at(np.array([1e10]), 2.2)[0], rel=1e-3
    )


def member(law, candidate: str, weight: float) -> Member:
    return Member(
        candidate=candidate, form=law.form, weight=weight, backtest_error_frac=0.01, coefficients=law.coefficients,
        noise_frac=0.004, samples=law.samples,
    )  # fmt: skip


def average_of(*members: Member, rivals: tuple[Member, ...] = ()) -> Average:
    return Average(
        for_factor=10, backtest_factor=10, num_cuts=2, num_cells=9, error_frac=0.05, widening=1.2, members=members, rivals=rivals
    )  # fmt: skip


def test_an_average_is_as_wide_as_it_says(make_law):
    average = average_of(member(make_law(), "chinchilla", 1.0))
    law = make_law(average=average, version=3)
    losses = Losses.of(law)
    assert losses.point(1e9, 1e11) == pytest.approx(loss_of(1e9, 1e11))
    _, says = average.log_losses({"num_params": 1e9, "num_tokens": 1e11})
    wide = np.log(losses.widened(law, 1e9, 1e11).drawn(1e9, np.array([1e11])))
    assert wide.std() == pytest.approx(says[0], rel=0.1)
    assert np.log(losses.drawn(1e9, np.array([1e11]))).std() < 0.6 * says[0]


def test_where_auto_leads_with_compute_alone_its_rivals_are_compared(make_law):
    compute = make_law("power_C", (1.7, 2000.0, 0.17))
    low = make_law(values=(1.6, A, B, ALPHA, BETA))
    rivals = (member(make_law(), "chinchilla", 0.0), member(low, "other", 0.0))
    law = make_law(
        "power_C", (1.7, 2000.0, 0.17), average=average_of(member(compute, "frontier", 1.0), rivals=rivals), version=3
    )  # fmt: skip
    losses = Losses.of(law)
    assert losses.point(1e9, 1e11) == pytest.approx(
        math.sqrt(loss_of(1e9, 1e11) * (loss_of(1e9, 1e11) - 0.1)), rel=1e-9
    )
    alone = make_law(
        "power_C", (1.7, 2000.0, 0.17), average=average_of(member(compute, "frontier", 1.0)), version=3
    )
    with pytest.raises(UsageError, match="a law of form 'power_C' does not weigh size against tokens"):
        Losses.of(alone)


def test_a_form_that_bends_is_asked_near_its_rows_alone(make_law):
    bent = Losses.of(make_law("quadratic", (3.0, -0.05, -0.05, 0.001, 0.0005, 0.001)))
    assert bent.tokens == pytest.approx((1e8, 1e14))
    assert Losses.of(make_law()).tokens == (1e3, 1e21)
    assert Losses.of(make_law()).lowest(np.array([1e10, 1e30])) == pytest.approx(1.7, abs=1e-3)


def test_repeated_tokens_teach_less(make_law):
    law = make_law("repeated", (1.7, 400.0, 2000.0, 0.34, 0.37, 15.0, 5.0))
    fresh, repeated = (
        Losses.of(law, unique_tokens=unique).tokens_at(np.array([1e9]), 2.7)[0] for unique in (None, 2e9)
    )
    assert repeated > 1.05 * fresh


@pytest.mark.parametrize(
    ("form", "values", "changes", "text"),
    [
        ("accuracy", (1.0, 4.0, 2.0, 0.3, 0.3), {"loss_unit": "accuracy"}, "this law is of accuracies"),
        ("power_N", (1.7, 400.0, 0.34), {}, "a law of form 'power_N' does not weigh size against tokens"),
        ("mixture", (1.7,) + (1.0,) * 9, {}, "form 'mixture' asks for the active part of a mixture"),
    ],
)
def test_laws_that_do_not_trade_size_against_tokens_are_refused(make_law, form, values, changes, text):
    with pytest.raises(UsageError, match=text):
        Losses.of(make_law(form, values, **changes))


def test_different_tokens_have_no_effect_on_a_law_to_which_all_are_new(make_law):
    with pytest.raises(UsageError, match="--unique-tokens has no effect on a law of form 'chinchilla'"):
        Losses.of(make_law(), unique_tokens=1e9)
