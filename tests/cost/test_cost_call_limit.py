import pytest

from kleiber.cost.call_limit import CallCost, call_limit
from kleiber.errors import UsageError


def test_the_longer_of_reading_and_multiplying_is_the_limit() -> None:
    reads = call_limit(CallCost(flops=1e9, read_bytes=1e9), peak_flops_per_s=1e11, bytes_per_s=1e10)
    assert (reads.bound, reads.time_s) == ("bandwidth", pytest.approx(0.1))
    multiplies = call_limit(CallCost(flops=1e11, read_bytes=1e9), peak_flops_per_s=1e11, bytes_per_s=1e10)
    assert (multiplies.bound, multiplies.time_s) == ("compute", pytest.approx(1.0))


def test_the_ridge_is_where_both_take_as_long() -> None:
    cost = CallCost(flops=10.0, read_bytes=1.0)
    assert cost.intensity == 10.0
    assert call_limit(cost, peak_flops_per_s=10.0, bytes_per_s=1.0).time_s == 1.0


def test_rates_must_be_positive() -> None:
    with pytest.raises(UsageError, match=r"limits must be positive rates\. Got \(0\.0, 1\.0\)"):
        call_limit(CallCost(1.0, 1.0), peak_flops_per_s=0.0, bytes_per_s=1.0)
