from __future__ import annotations

import pytest

from kleiber.cost import DTYPES, find_device, known_devices
from kleiber.errors import RecipeError


def test_the_figures_of_data_sheets() -> None:
    h100 = find_device("h100-sxm")
    assert (h100.peak("bf16"), h100.memory_bytes) == (("bf16", 989e12), 80e9)
    assert find_device("A100-80GB ").peak() == ("bf16", 312e12)
    assert find_device("v100").peak() == ("fp16", 125e12)
    assert find_device("cpu").peak()[0] == "fp32"


@pytest.mark.parametrize("name", sorted(known_devices()))
def test_every_device_is_plausible(name: str) -> None:
    device = known_devices()[name]
    assert set(device.peak_flops_per_s) <= set(DTYPES)
    assert all(1e11 < peak < 1e16 for peak in device.peak_flops_per_s.values())
    if name == "cpu":
        return
    assert 16e9 <= (device.memory_bytes or 0) <= 300e9
    assert 2e11 < (device.bandwidth_bytes_per_s or 0) < 1e13
    assert 0.1 < (device.usd_per_hour or 0) < 20
    assert device.price_date


def test_an_unknown_device_is_refused_and_the_known_ones_listed() -> None:
    with pytest.raises(
        RecipeError, match=r"unknown device 'h1000'\. Known: a100-40gb, a100-80gb, b200, cpu, .*v100\."
    ):
        find_device("h1000")


def test_a_dtype_that_a_device_lacks_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"t4 has no peak for this dtype; it has fp16, fp32\. Got 'bf16'"):
        find_device("t4").peak("bf16")
