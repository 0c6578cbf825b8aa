from __future__ import annotations

import pytest

from kleiber.scaling.checks import is_determined, undetermined
from kleiber.scaling.forms import FORMS


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


@pytest.mark.parametrize(("width", "expected"), [(6.9, ()), (6.91, ("gamma",))])
def test_a_number_of_either_sign_is_undetermined_where_what_it_stands_for_spans_more_than_a_thousand(
    width, expected
):
    form = FORMS["farseer"]
    intervals = {one.name: {"80": (-0.1, 0.2), "95": (-0.2, 0.4)} for one in form.coefficients}
    intervals["gamma"]["80"] = (-1.0, width - 1.0)

    assert undetermined(form, intervals, 2.0) == expected
