from __future__ import annotations

import pytest

from kleiber.scaling.checks import is_determined


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((0.16, 1.0), True),
        ((0.14, 1.0), False),
        ((0.2, 1.69), True),
        ((0.2, 1.71), False),
        ((0.0, 0.1), False),
    ],
)
def test_e_is_determined_when_it_stays_off_zero_and_is_narrower_than_half_the_lowest_loss(interval, expected):
    assert is_determined(interval, 3.0) is expected
