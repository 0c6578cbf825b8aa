from __future__ import annotations

import re
import subprocess
import sys

import pytest
from pydantic import ValidationError

from kleiber.cost import DTYPES, NETWORK_BYTES_PER_S, Device, described_device, find_device, known_devices
from kleiber.errors import RecipeError

ACCELERATORS = sorted(set(known_devices()) - {"cpu"})


@pytest.mark.parametrize(
    ("name", "dtype", "peak", "memory", "bandwidth"),
    [
        ("v100", "fp16", 125e12, 16e9, 900e9),
        ("a100-80gb", "bf16", 312e12, 80e9, 2.039e12),
        ("h100-sxm", "bf16", 989.4e12, 80e9, 3.35e12),
        ("h100-pcie", "bf16", 756.5e12, 80e9, 2.0e12),
        ("h200", "bf16", 989.4e12, 141e9, 4.8e12),
        ("b200", "bf16", 2250e12, 180e9, 8e12),
        ("rtx-4090", "bf16", 165.2e12, 24e9, 1.008e12),
        ("mi250x-gcd", "bf16", 191.5e12, 64e9, 1.6e12),
        ("mi300x", "bf16", 1307.4e12, 192e9, 5.3e12),
        ("mi355x", "bf16", 2516.6e12, 288e9, 8e12),
        ("tpu-v4", "bf16", 275e12, 32e9, 1.2e12),
        ("tpu-v5e", "bf16", 197e12, 16e9, 819e9),
        ("tpu-v5p", "bf16", 459e12, 95e9, 2.765e12),
        ("tpu-v6e", "bf16", 918e12, 32e9, 1.638e12),
        ("tpu-v7", "fp8", 4614e12, 192e9, 7.38e12),
        ("gaudi-3", "bf16", 1835e12, 128e9, 3.7e12),
        ("trainium2", "bf16", 667e12, 96e9, 2.9e12),
        ("m4-max", "fp32", 18.4e12, 128e9, 546e9),
    ],
)
def test_the_figures_of_data_sheets(name, dtype, peak, memory, bandwidth):
    device = find_device(name)
    assert (device.peak(dtype), device.memory_bytes, device.bandwidth_bytes_per_s) == (
        (dtype, peak),
        memory,
        bandwidth,
    )


@pytest.mark.parametrize(
    ("name", "num_units", "flops_per_cycle", "clock_hz", "dtype"),
    [
        # Multiprocessors, dense operations of one a cycle, boost clock: the peak worked out, not quoted.
        ("v100", 80, 1024, 1.53e9, "fp16"),
        ("a100-80gb", 108, 2048, 1.41e9, "bf16"),
        ("h100-sxm", 132, 4096, 1.83e9, "bf16"),
        ("rtx-3090", 82, 512, 1.695e9, "bf16"),
        ("rtx-4090", 128, 512, 2.52e9, "bf16"),
        ("rtx-5090", 170, 512, 2.407e9, "bf16"),
        ("mi250x-gcd", 110, 1024, 1.7e9, "fp16"),
        ("mi300x", 304, 2048, 2.1e9, "bf16"),
        ("mi355x", 256, 4096, 2.4e9, "bf16"),
    ],
)
def test_peaks_are_dense_and_follow_from_the_clock(name, num_units, flops_per_cycle, clock_hz, dtype):
    worked_out = num_units * flops_per_cycle * clock_hz
    assert find_device(name).peak(dtype)[1] == pytest.approx(worked_out, rel=0.01)


def test_there_are_at_least_thirty_accelerators_of_every_maker():
    assert len(ACCELERATORS) >= 45
    makers = {known_devices()[name].title.split()[0] for name in ACCELERATORS}
    assert makers == {"NVIDIA", "AMD", "Google", "Intel", "AWS", "Apple"}


@pytest.mark.parametrize("name", ACCELERATORS)
def test_every_row_says_what_it_is_and_where_from(name):
    device = known_devices()[name]
    assert device.source
    assert device.date
    assert 2017 <= int(device.date[:4]) <= 2026
    assert device.date[4] == "-"
    assert device.per in {"GPU", "GCD", "APU", "chip", "accelerator"}
    assert (device.usd_per_hour is None) == (device.price_date is None)
    assert device.usd_per_hour is None or 0.1 < device.usd_per_hour < 20
    marketed = re.search(r"(\d+) GB\b", device.title)
    assert marketed
    assert device.memory_bytes == int(marketed[1]) * 1e9


@pytest.mark.parametrize("name", ACCELERATORS)
def test_every_rate_is_plausible(name):
    device = known_devices()[name]
    peaks = device.peak_flops_per_s
    assert set(peaks) <= set(DTYPES)
    assert all(8e12 <= peak < 1e16 for peak in peaks.values())
    half = peaks.get("fp16", peaks.get("bf16", 0.0))
    assert name == "mi100" or peaks.get("bf16", half) == half
    # Fewer bits are never slower; bf16 may be slower than fp16 (MI100), tf32 as slow as fp32 (GeForce).
    assert peaks.get("fp8", half) >= half
    assert peaks.get("int8", half) >= half
    assert half >= peaks.get("bf16", 0.0)
    assert half >= peaks.get("tf32", 0.0) >= (peaks["fp32"] if "tf32" in peaks else 0.0)
    assert half >= peaks.get("fp32", 0.0)
    # Steps are halvings: a sparse figure that was not halved makes one of four.
    assert peaks.get("fp8", half) <= 2.4 * half
    assert 1e10 <= (device.memory_bytes or 0) <= 3e11
    assert 3e11 <= (device.bandwidth_bytes_per_s or 0) <= 1e13
    # The whole memory is read in 4 ms to 0.35 s, and a byte of it is worth 18 to 500 operations.
    assert 0.004 < device.memory_bytes / device.bandwidth_bytes_per_s < 0.36
    assert 18 < half / device.bandwidth_bytes_per_s < 570


@pytest.mark.parametrize("name", ACCELERATORS)
def test_links_and_power_are_plausible(name):
    device = known_devices()[name]
    assert (device.interconnect_bytes_per_s is None) == (device.devices_per_node == 1)
    if device.interconnect_bytes_per_s is not None:
        assert device.interconnect_bytes_per_s < device.bandwidth_bytes_per_s
        assert device.network_bytes_per_s < device.interconnect_bytes_per_s
    if device.watts is not None:
        half = device.peak_flops_per_s.get("fp16") or device.peak_flops_per_s["bf16"]
        assert 70 <= device.watts <= 1400
        assert 1e11 < half / device.watts < 3e12


def test_what_is_checked_is_said_row_by_row():
    checked = {name for name in ACCELERATORS if known_devices()[name].is_checked}
    assert len(checked) >= 25
    assert {"a100-80gb", "h100-sxm", "tpu-v5p", "trainium2"} <= checked
    assert not checked & {"l4", "h100-nvl", "rtx-4090", "mi300a", "m1-max"}
    assert not find_device("cpu").is_checked


def test_no_spelling_means_two_devices():
    words = [word for name, device in known_devices().items() for word in (name, *device.aliases)]
    spelled = ["".join(letter for letter in word if letter.isalnum()) for word in words]
    assert len(set(spelled)) == len(words)
    assert all(find_device(word).name == name for name in known_devices() for word in _words(name))


def _words(name):
    return name, name.upper(), name.replace("-", " "), f" {name} ", *known_devices()[name].aliases


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("RTX 4090", "rtx-4090"),
        ("NVIDIA GeForce RTX 3090", "rtx-3090"),
        ("rtx_a6000", "a6000"),
        ("AMD Instinct MI300X", "mi300x"),
        ("trn2", "trainium2"),
        ("Trillium", "tpu-v6e"),
        ("H200-SXM", "h200"),
        ("A100-80GB ", "a100-80gb"),
    ],
)
def test_a_device_is_found_however_it_is_written(typed, name):
    assert find_device(typed).name == name


@pytest.mark.parametrize(
    ("typed", "variants"),
    [
        ("h100", "h100-nvl, h100-pcie, h100-sxm"),
        ("NVIDIA A100", "a100-40gb, a100-40gb-pcie, a100-80gb, a100-80gb-pcie"),
        ("mi300", "mi300a, mi300x"),
        ("trainium", "trainium1, trainium2"),
        ("tpu-v5", "tpu-v5e, tpu-v5p"),
    ],
)
def test_an_ambiguous_name_is_refused_with_its_variants(typed, variants):
    with pytest.raises(
        RecipeError, match=rf"'{typed}' may be any of {variants}; their peaks, memory or links"
    ):
        find_device(typed)


@pytest.mark.parametrize(
    ("typed", "near"),
    [
        ("h1000", "h100-sxm, h100-nvl, h100-pcie, "),
        ("a100-80x", "a100-80gb, "),
        ("rtx-409", "rtx-4090."),
        ("mi250x", "mi250x-gcd."),
        ("gaudi2x", "gaudi-2, gaudi-3"),
        ("tpu-v6", "tpu-v6e."),
    ],
)
def test_an_unknown_device_is_refused_and_near_ones_named_first(typed, near):
    with pytest.raises(RecipeError) as caught:
        find_device(typed)
    assert caught.value.message.startswith(f"unknown device '{typed}'. Near: {near}")


def test_the_error_says_how_to_list_all_and_how_to_describe_one():
    with pytest.raises(RecipeError) as caught:
        find_device("b200x")
    assert caught.value.message.startswith("unknown device 'b200x'. Near: b200, ")
    assert caught.value.hint == (
        f"--device b200   (--device list shows all {len(known_devices())}; "
        "describe another: --peak-flops-per-s 3e14 --memory-bytes 80e9)"
    )
    with pytest.raises(
        RecipeError, match=r"the known devices are: a10, .*v100-pcie\.\n.*--memory-bytes 80e9"
    ):
        find_device("list")


@pytest.mark.parametrize("typed", ["abacus", "", "   ", "nvidia"])
def test_what_resembles_nothing_gets_the_whole_list(typed):
    with pytest.raises(
        RecipeError, match=rf"unknown device '{typed}'\. Known: a10, a100-40gb, .*, v100-pcie\."
    ):
        find_device(typed)


def test_a_dtype_that_a_device_lacks_is_refused():
    with pytest.raises(
        RecipeError, match=r"t4 has no peak for this dtype; it has fp16, fp32, int8\. Got 'bf16'"
    ):
        find_device("t4").peak("bf16")


def test_training_takes_the_first_dtype_that_there_is():
    assert find_device("h100-sxm").peak() == ("bf16", 989.4e12)
    assert find_device("v100").peak()[0] == "fp16"
    assert find_device("cpu").peak()[0] == "fp32"


def test_a_device_described_by_hand():
    device = described_device(
        {"bf16": 4e14, "fp8": 8e14},
        96e9,
        3e12,
        name="mine",
        interconnect_bytes_per_s=2e11,
        devices_per_node=4,
    )
    assert (device.name, device.peak(), device.devices_per_node) == ("mine", ("bf16", 4e14), 4)
    assert (device.network_bytes_per_s, device.is_checked) == (NETWORK_BYTES_PER_S, False)
    assert Device.of(device.model_dump(mode="json"), "device", RecipeError) == device
    one_number = described_device(3e14, 80e9)
    assert {one_number.peak(dtype)[1] for dtype in DTYPES if dtype != "int8"} == {3e14}
    with pytest.raises(RecipeError, match="custom has no peak for this dtype"):
        one_number.peak("int8")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"peak_flops_per_s": 0.0}, r"--peak-flops-per-s must be a positive number\. Got 0\.0\."),
        ({"peak_flops_per_s": {"bf16": -1.0}}, r"--peak-flops-per-s must be a positive number\. Got -1\.0\."),
        ({"peak_flops_per_s": {}}, r"--peak-flops-per-s must be a positive number\. Got nan\."),
        ({"peak_flops_per_s": {"bf61": 1.0}}, r"one of bf16, fp16, fp32, tf32, fp8, int8\. Got 'bf61'\."),
        ({"memory_bytes": float("inf")}, r"--memory-bytes must be a positive number\. Got inf\."),
        ({"bandwidth_bytes_per_s": float("nan")}, r"--bandwidth-bytes-per-s must be a positive number\."),
        ({"interconnect_bytes_per_s": -1.0}, r"--interconnect-bytes-per-s must be a positive number\."),
        ({"network_bytes_per_s": 0.0}, r"--network-bytes-per-s must be a positive number\."),
        ({"devices_per_node": 0}, r"--devices-per-node must be a positive number\. Got 0\."),
        ({"watts": 0.0}, r"--watts must be a positive number\."),
        ({"usd_per_hour": -0.5}, r"--usd-per-hour must not be negative\. Got -0\.5\."),
    ],
)
def test_a_device_described_wrongly_is_refused(values, message):
    with pytest.raises(RecipeError, match=message):
        described_device(**{"peak_flops_per_s": 3e14, "memory_bytes": 80e9, **values})


@pytest.mark.parametrize("bad", [{"peak_flops_per_s": {}}, {"memory_bytes": 0.0}, {"devices_per_node": 0}])
def test_a_row_out_of_range_cannot_be_read(bad):
    with pytest.raises(ValidationError):
        Device(**{"name": "x", "title": "x", "peak_flops_per_s": {"fp32": 1e12}, **bad})


def test_devices_storage_and_money_are_imported_without_torch():
    code = (
        "import sys, kleiber.cost.devices as d, kleiber.cost.storage, kleiber.cost.money; "
        "d.known_devices(); sys.exit(bool({'torch', 'transformers', 'scipy', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
