from __future__ import annotations

import pytest

from kleiber.cost import described_device, energy_kwh, find_device, usd
from kleiber.errors import RecipeError

A100 = find_device("a100-80gb")


@pytest.mark.parametrize(
    ("gpu_hours", "published_mwh"), [(82_432, 36), (135_168, 59), (530_432, 233), (1_022_362, 449)]
)
def test_the_energy_that_llama_reports(gpu_hours, published_mwh):
    # Touvron et al. 2023, table 15: A100-80GB, 400 W, PUE 1.1, no load fraction.
    assert energy_kwh(A100, 1, gpu_hours * 3600) / 1000 == pytest.approx(published_mwh, rel=0.01)


def test_energy_by_hand():
    # 8 x 700 W x 0.8 x 1.25 x 2 h = 11.2 kWh.
    device = find_device("h100-sxm")
    assert energy_kwh(device, 8, 7200, load_frac=0.8, pue=1.25) == pytest.approx(11.2)
    assert energy_kwh(device, 8, 7200, load_frac=0.8, pue=1.25, watts=350) == pytest.approx(5.6)
    assert energy_kwh(device, 1, 0) == 0


def test_money_by_hand():
    assert usd(A100, 8, 3600) == pytest.approx(8 * 1.80)
    assert usd(A100, 8, 1800, usd_per_hour=3.0) == pytest.approx(12.0)
    assert usd(A100, 8, 1800, usd_per_hour=0.0) == 0
    assert usd(find_device("mi355x"), 8, 3600) is None
    assert usd(described_device(1e14, 1e9, usd_per_hour=2.0), 2, 3600) == 4.0


def test_power_that_nobody_publishes_is_asked_for():
    with pytest.raises(RecipeError, match=r"the power of tpu-v5e is not known; give it\.\n.*--watts 400"):
        energy_kwh(find_device("tpu-v5e"), 8, 3600)
    assert energy_kwh(find_device("tpu-v5e"), 1, 3600, watts=200, pue=1) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_devices": 0}, r"at least one device works\. Got 0\."),
        ({"time_s": -1.0}, r"a job's time must be finite and not negative \[s\]\. Got -1\.0\."),
        ({"time_s": float("inf")}, r"a job's time must be finite"),
        ({"load_frac": 0.0}, r"the load must be above 0 and at most 1\. Got 0\.0\."),
        ({"load_frac": 1.5}, r"the load must be above 0 and at most 1\. Got 1\.5\."),
        ({"pue": 0.9}, r"PUE is 1 or more: .*Got 0\.9\."),
        ({"watts": -5.0}, r"--watts must be a positive number\. Got -5\.0\."),
    ],
)
def test_energy_out_of_range_is_refused(values, message):
    with pytest.raises(RecipeError, match=message):
        energy_kwh(**{"device": A100, "num_devices": 1, "time_s": 1.0, **values})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_devices": -1}, "at least one device works"),
        ({"time_s": float("nan")}, "a job's time must be finite"),
        ({"usd_per_hour": -1.0}, r"--usd-per-hour must not be negative\. Got -1\.0\."),
    ],
)
def test_money_out_of_range_is_refused(values, message):
    with pytest.raises(RecipeError, match=message):
        usd(**{"device": A100, "num_devices": 1, "time_s": 1.0, **values})
