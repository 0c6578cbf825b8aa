from __future__ import annotations

import numpy as np
import pytest

from kleiber.errors import ConventionError, UsageError
from kleiber.scaling import compare, fit

WIDE = {"sizes": [10**k for k in range(5, 9)], "horizons": [10.0**k for k in range(7, 11)]}
BASE = (1.5, 43.3, 408.5, 0.3, 0.45)


def laws(ladder, second, **noise):
    rows = [ladder(**WIDE, **noise), ladder(second, **WIDE, **noise)]
    return [fit(found, num_bootstrap=200, seed=0) for found in rows]


def test_a_difference_that_is_there_is_real(ladder):
    first, second = laws(ladder, (1.4, *BASE[1:]), run_frac=0.002)
    found = compare(first, second)
    for one in found.differences:
        assert one.difference == pytest.approx(-0.1, abs=0.02)
        assert one.is_real
        assert one.second_is_lower_frac > 0.99
        assert one.flops == pytest.approx(6 * one.num_params * one.num_tokens)
        assert one.difference == pytest.approx(one.second_loss - one.first_loss)
    assert found.crossing.flops is None
    assert found.crossing.interval_80 is None


def test_a_ladder_does_not_differ_from_another_of_the_same_law(ladder):
    first = fit(ladder(**WIDE, run_frac=0.004, seed=1), num_bootstrap=200)
    second = fit(ladder(**WIDE, run_frac=0.004, seed=2), num_bootstrap=200)
    assert not any(one.is_real for one in compare(first, second).differences)


def test_errors_of_two_laws_do_not_cancel_because_one_seed_drew_them(ladder):
    first = fit(ladder(**WIDE, run_frac=0.004, seed=1), num_bootstrap=400)
    (one,) = compare(first, first, [1e20]).differences
    spread = np.log(first.predictions([one.num_params], [one.num_tokens]).loss)
    assert spread.shape == (1,)
    width = one.interval_80[1] - one.interval_80[0]
    alone = np.quantile(
        first.shape.value(first.refits, {"N": np.array([one.num_params]), "D": np.array([one.num_tokens])}),
        [0.1, 0.9],
    )
    assert one.difference == 0
    assert width == pytest.approx(2**0.5 * (alone[1] - alone[0]), rel=0.2)


def test_where_two_laws_cross(ladder):
    # The second starts worse and falls faster: 1.5 + 400 / D^0.45 against 1.4 + ..., equal where the terms differ by 0.1.
    first, second = laws(ladder, (1.45, 43.3, 600.0, 0.3, 0.44), run_frac=0.0005)
    found = compare(first, second, tokens_per_param=100.0)
    size = np.geomspace(1e4, 1e12, 2_000_001)

    def loss(E, A, B, alpha, beta):
        return E + A * size**-alpha + B * (100 * size) ** -beta

    true = (
        6
        * 100
        * size[np.flatnonzero(np.diff(np.sign(loss(*BASE) - loss(1.45, 43.3, 600.0, 0.3, 0.44))))[-1]] ** 2
    )
    assert found.crossing.flops == pytest.approx(true, rel=0.5)
    low, high = found.crossing.interval_80
    assert low < true < high
    assert found.crossing.crosses_frac > 0.9


def test_scales_are_the_users(ladder):
    first, second = laws(ladder, BASE, run_frac=0.002)
    assert [one.flops for one in compare(first, second, [1e18, 1e21]).differences] == [1e18, 1e21]
    with pytest.raises(UsageError, match=r"A compute budget must be a positive number\. Got -1\.0"):
        compare(first, second, [-1.0])


def test_laws_of_other_losses_are_not_compared(law, ladder):
    with pytest.raises(ConventionError, match="these differ in eval_hash: 'e1' and 'e2'"):
        compare(law, law.model_copy(update={"eval_hash": "e2"}))
    body = fit(ladder(), convention="body", num_bootstrap=100)
    with pytest.raises(ConventionError, match="these differ in convention: 'total' and 'body'"):
        compare(law, body)
