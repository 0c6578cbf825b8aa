from __future__ import annotations

import pytest

from kleiber.cost import find_device
from kleiber.errors import UsageError
from kleiber.study.budget import Budget, spends

CPU, A100 = find_device("cpu"), find_device("a100-80gb")


def test_hours_are_of_all_devices_and_money_of_each() -> None:
    found = spends(Budget(usd=48.0, hours=3.0, flops=1e18, num_devices=8), A100, 2.0)
    assert [(one.name, one.flops, one.time_s) for one in found] == [
        ("usd", None, 3 * 3600.0),  # 8 devices at 2 USD cost 16 USD an hour
        ("hours", None, 3 * 3600.0),
        ("flops", 1e18, None),
    ]


def test_the_list_price_is_taken_where_none_is_given() -> None:
    assert A100.usd_per_hour is not None
    assert spends(Budget(usd=A100.usd_per_hour), A100)[0].time_s == pytest.approx(3600)


def test_time_becomes_operations_at_a_rate() -> None:
    spend = spends(Budget(hours=1.0), CPU)[0]
    assert spend.flops_at(1e12) == 3.6e15


def test_money_without_a_price() -> None:
    with pytest.raises(UsageError, match="--budget-usd needs a price, and cpu has none") as raised:
        spends(Budget(usd=1.0), CPU)
    assert "--usd-per-hour" in str(raised.value)


def test_a_price_of_nothing() -> None:
    with pytest.raises(UsageError, match=r"needs a price above 0.*limited by hours\. Got 0\.0"):
        spends(Budget(usd=1.0), CPU, 0.0)


def test_a_budget_needs_a_limit() -> None:
    with pytest.raises(
        UsageError, match="at least one of usd, hours, flops and memory_bytes; none was given"
    ):
        Budget.of({"num_devices": 8}, "the budget", UsageError)


@pytest.mark.parametrize("key", ["usd", "hours", "flops", "memory_bytes"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_limits_are_positive_and_finite(key, value) -> None:
    with pytest.raises(UsageError, match=rf"the budget: {key}: input should be .* Got {value}"):
        Budget.of({key: value}, "the budget", UsageError)


def test_served_tokens_are_not_negative() -> None:
    with pytest.raises(UsageError, match="inference_tokens: input should be greater than or equal to 0"):
        Budget.of({"usd": 1.0, "inference_tokens": -1.0}, "the budget", UsageError)


def test_the_sentence_names_every_limit() -> None:
    budget = Budget(usd=100.0, hours=72.0, flops=1e21, memory_bytes=80e9, num_devices=8)
    assert budget.sentence == "100 USD and 72 hours of 8 device(s) and 1.00 ZFLOP and 80.0 GB a device"
