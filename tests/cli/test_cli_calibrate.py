"""`kleiber calibrate`: what it prints, what it keeps, how it is asked wrongly."""

from __future__ import annotations

import pytest

from kleiber.cost import calibration_path, load_calibration
from kleiber.cost.measured_call import Limits, MeasuredCall, WorkingSet
from kleiber.cost.operations import Operation
from kleiber.cost.rates import DiskRates, ProcessorRates, Rates
from kleiber.study import calibrate as calibrating

ADD = Operation("add", "elementwise", "forward", "", (8,), 0, 96)


def processor(title, peaks):
    limits = Limits(
        peak_flops_per_s=peaks,
        bandwidth=(
            WorkingSet(num_bytes=1 << 16, bytes_per_s=9e10),
            WorkingSet(num_bytes=1 << 28, bytes_per_s=2e10),
        ),
        call_s=1.25e-6,
    )
    return ProcessorRates(
        title=title,
        limits=limits,
        fresh_page_s_per_byte=1e-10,
        gap_s=5e-6,
        check_errors={"a": 0.04, "b": -0.06, "c": 0.05},
        calls=(MeasuredCall.timed(ADD, 2e-6),),
    )


RATES = Rates(
    measured_at="2026-01-02T03:04:05.678+00:00",
    torch_version="2",
    cpu={
        1: processor("A processor, 1 thread", {"fp32": 1e11}),
        2: processor("A processor, 2 threads", {"fp32": 1.9e11, "bf16": 4e11}),
    },
    disk=DiskRates(write_bytes_per_s=5e8, read_bytes_per_s=2e9),
)


@pytest.fixture(autouse=True)
def asked(monkeypatch, tmp_path):
    """Return the seconds that were asked for; nothing is measured."""
    monkeypatch.setenv("KLEIBER_CACHE", str(tmp_path / "cache"))
    seconds = []

    def measure(time_s, *, on_progress):
        seconds.append(time_s)
        on_progress(0.0, "disk")
        on_progress(time_s, "")
        return RATES

    monkeypatch.setattr(calibrating, "measure_rates", measure)
    return seconds


def test_people_see_a_table_of_what_was_measured(cli, asked):
    ran = cli("calibrate")
    assert ran.code == 0
    assert asked == [55.0]
    lines = [line.split() for line in ran.stdout.splitlines()]
    assert ["products,", "fp32", "100", "GFLOP/s", "190", "GFLOP/s"] in lines
    assert ["products,", "bf16", "400", "GFLOP/s"] in lines
    assert ["memory,", "65.5", "kB", "90.0", "GB/s", "90.0", "GB/s"] in lines
    assert ["smallest", "call", "1.25", "µs", "1.25", "µs"] in lines
    assert ["between", "small", "calls", "2.50", "µs", "2.50", "µs"] in lines
    assert ["a", "page", "of", "4", "KiB", "made", "anew", "0.41", "µs", "0.41", "µs"] in lines
    assert ["error", "on", "steps", "left", "out", "5.0%", "5.0%"] in lines
    assert "Disk: 500 MB/s written, 2.00 GB/s read." in ran.stdout
    assert f"{calibration_path()}: plans of this machine, the device local, rest on this." in ran.stdout


def test_what_was_measured_is_kept(cli):
    cli("calibrate", "--seconds", "10")
    kept = load_calibration()
    assert kept is not None
    assert kept.rates == RATES
    assert kept.peak_flops_per_s == {1: 1e11, 2: 1.9e11}


def test_programs_read_one_line(cli, asked):
    ran = cli("calibrate", "--seconds", "20", "--json")
    assert asked == [20.0]
    assert ran.stdout.count("\n") == 1
    document = ran.document
    assert document["device"] == "local"
    assert document["path"] == str(calibration_path())
    assert document["disk"] == {"write_bytes_per_s": 5e8, "read_bytes_per_s": 2e9}
    assert document["gpus"] == {}
    assert set(document["cpu"]) == {"1", "2"}
    two = document["cpu"]["2"]
    assert two["limits"]["peak_flops_per_s"] == {"fp32": 1.9e11, "bf16": 4e11}
    assert (two["check_error_frac"], two["num_calls"]) == (0.05, 1)
    assert "calls" not in two
    assert "products" in ran.stderr


@pytest.mark.parametrize("text", ["4", "0", "-1", "soon", "1e9", "7.5"])
def test_seconds_are_a_whole_number(cli, asked, text):
    ran = cli("calibrate", "--seconds", text)
    assert ran.code == 2
    assert ran.stderr == (
        f"error: --seconds must be a whole number from 5 to 3600. Got '{text}'.\n  try: kleiber calibrate --seconds 5\n"
    )
    assert asked == []


def test_a_broken_calibration_is_said_first(cli, asked):
    calibration_path().parent.mkdir(parents=True)
    calibration_path().write_text("{")
    ran = cli("calibrate")
    assert ran.code == 2
    assert "machine.json is truncated or not valid JSON" in ran.stderr
    assert f"rm {calibration_path()}" in ran.stderr
    assert asked == []


def test_an_interrupt_keeps_what_was_there(cli, monkeypatch):
    cli("calibrate")
    before = calibration_path().read_bytes()

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(calibrating, "measure_rates", interrupted)
    ran = cli("calibrate")
    assert (ran.code, ran.stderr) == (130, "stopped.\n")
    assert calibration_path().read_bytes() == before


def test_a_plan_of_this_machine_rests_on_it(cli):
    cli("calibrate")
    document = cli("plan", "gpt:depth=2,width=64", "--json").document
    assert any("this machine's rates, measured on 2026-01-02" in text for text in document["assumptions"])
