from __future__ import annotations

import pytest

from kleiber.cost import Calibration, find_device
from kleiber.cost.layouts import Layout
from kleiber.errors import RecipeError, UsageError
from kleiber.study.place import here, place_of


def test_without_a_name_it_is_this_machine():
    for name in (None, "local", " LOCAL "):
        place = place_of(name)
        assert place.is_here
        assert place.num_devices == 1
        assert place.device.memory_bytes > 1e8
    assert not place_of("h100-sxm").is_here


def test_what_was_measured_of_this_machine_is_taken():
    measured = Calibration(measured_at="", peak_flops_per_s={1: 1e11}, probes=())
    place = here(measured, num_threads=1)
    assert place.device.peak("fp32") == ("fp32", 1e11)
    assert place.calibration is measured
    assert here(None).device.peak_flops_per_s == find_device("cpu").peak_flops_per_s


def test_a_layout_says_how_many_devices():
    place = place_of("h100-sxm", parallel="tp=2,pp=4")
    assert (place.num_devices, place.layout) == (8, Layout(tp=2, pp=4))
    assert place_of("h100-sxm", num_devices=4).layout is None
    # What contradicts itself is found where the layout is checked.
    assert place_of("h100-sxm", num_devices=4, parallel="ddp=8").num_devices == 4


def test_numbers_stand_for_the_devices_own():
    place = place_of("h100-sxm", memory_bytes=1e9, watts=10, bandwidth_bytes_per_s=1e12, usd_per_hour=2.0)
    known = find_device("h100-sxm")
    assert (place.device.memory_bytes, place.device.watts, place.usd_per_hour) == (1e9, 10, 2.0)
    assert place.device.bandwidth_bytes_per_s == 1e12
    assert place.device.peak_flops_per_s == known.peak_flops_per_s
    assert place_of(None, memory_bytes=1e9).device.memory_bytes == 1e9


def test_a_device_is_described_by_its_peak():
    device = place_of(None, peak_flops_per_s=3e14, memory_bytes=80e9, interconnect_bytes_per_s=1e11).device
    assert (device.name, device.memory_bytes, device.interconnect_bytes_per_s) == ("custom", 80e9, 1e11)
    assert device.peak("bf16")[1] == 3e14


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"name": "h100-sxm", "peak_flops_per_s": 1e14}, "--device names a device and --peak-flops-per-s describes one"),
        ({"name": None, "peak_flops_per_s": 1e14}, "described by its peak needs its memory"),
        ({"name": None, "num_devices": 2}, "this machine is one device; 2 need a name"),
        ({"name": "local", "parallel": "ddp=8"}, "this machine is one device; 8 need a name"),
        ({"name": None, "bandwidth_bytes_per_s": 1e9}, "--bandwidth-bytes-per-s is for a device with a name"),
        ({"name": None, "interconnect_bytes_per_s": 1e9}, "--interconnect-bytes-per-s is for a device with a name"),
        ({"name": None, "is_compiled": True}, "--compiled is for a device with a name"),
    ],
)  # fmt: skip
def test_what_is_no_place(options, sentence):
    with pytest.raises(UsageError, match=sentence):
        place_of(**options)


def test_unknown_names_and_layouts():
    with pytest.raises(RecipeError, match="unknown device 'abacus'"):
        place_of("abacus")
    with pytest.raises(RecipeError, match="--parallel is written"):
        place_of("h100-sxm", parallel="x")
