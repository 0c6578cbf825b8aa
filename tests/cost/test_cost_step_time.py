from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kleiber.cost import (
    Calibration,
    Probe,
    StepShape,
    assumed_step_time,
    calibrated_step_time,
    calibration_path,
    load_calibration,
    save_calibration,
)
from kleiber.errors import RunFolderError

PEAK = 100e9


def probe(flops: float, blocks: int, time_s: float, **changes: object) -> Probe:
    values = {
        "spec": {"flops": flops, "blocks": blocks},
        "optimizer": "adamw",
        "num_blocks": blocks,
        "flops_per_step": flops,
        "tokens_per_step": 512,
        "num_threads": 1,
        "step_time_s": time_s,
    }
    return Probe.model_validate(values | changes)


def shape(flops: float, blocks: int, **changes: object) -> StepShape:
    values = {
        "spec": {"flops": flops, "blocks": blocks},
        "optimizer": "adamw",
        "tokens": 512,
        "num_threads": 1,
    }
    return StepShape(num_blocks=blocks, flops=flops, **(values | changes))


def calibration(*probes: Probe) -> Calibration:
    return Calibration(
        measured_at="2026-01-01T00:00:00+00:00", peak_flops_per_s={1: PEAK, 2: 1.8e11}, probes=probes
    )


def test_without_a_calibration_the_efficiency_is_assumed_and_said() -> None:
    time = assumed_step_time(shape(4e12, 12), 1e13, "a test")
    assert time.step_time_s == pytest.approx(1.0)
    assert "40% of the peak of a test, not measured" in time.method


def test_a_probe_of_the_same_model_is_taken_as_it_is() -> None:
    own = calibration(probe(1e9, 2, 0.02), probe(2e9, 3, 0.055), probe(4e9, 4, 0.06))
    assert calibrated_step_time(shape(2e9, 3), own).step_time_s == 0.055
    assert "probe of this very model" in calibrated_step_time(shape(2e9, 3), own).method


@pytest.mark.parametrize("change", [{"tokens": 1024}, {"optimizer": "muon"}, {"num_processes": 2}])
def test_a_probe_of_something_else_is_not(change: dict[str, object]) -> None:
    own = calibration(probe(1e9, 2, 0.02), probe(2e9, 3, 0.055))
    assert "2 probes of other sizes" in calibrated_step_time(shape(2e9, 3, **change), own).method


@given(st.floats(1e-11, 1e-9), st.floats(0, 0.01), st.floats(0, 0.01))
def test_the_law_that_probes_follow_is_recovered(per_flop: float, per_block: float, per_step: float) -> None:
    def law(flops: float, blocks: int) -> float:
        return per_flop * flops + per_block * blocks + per_step

    sizes = [(2e8, 2), (5e8, 3), (1e9, 3), (3e9, 6), (2.4e9, 8)]
    own = calibration(*(probe(flops, blocks, law(flops, blocks)) for flops, blocks in sizes))
    for flops, blocks in [(2e10, 12), (7e8, 2)]:
        assert calibrated_step_time(shape(flops, blocks), own).step_time_s == pytest.approx(
            law(flops, blocks), rel=1e-4
        )


def test_no_part_of_the_time_is_negative() -> None:
    # exactly 12 ms a GFLOP, 5 ms a step and *minus* 0.4 ms a block: noise, that would make deep models free
    sizes = [(1e9, 8), (2e9, 4), (4e9, 12), (8e9, 1)]
    own = calibration(*(probe(f, blocks, 1.2e-11 * f - 4e-4 * blocks + 5e-3) for f, blocks in sizes))
    shallow, deep = (calibrated_step_time(shape(3e9, blocks), own).step_time_s for blocks in (1, 100))
    assert 0 < shallow <= deep


def test_two_probes_give_the_rate_and_the_overhead() -> None:
    own = calibration(probe(1e9, 1, 0.013), probe(4e9, 2, 0.046))
    assert calibrated_step_time(shape(8e9, 3), own).step_time_s == pytest.approx(0.089)


def test_one_probe_gives_its_overhead_above_the_peak() -> None:
    # 1e9 FLOP take 10 ms at the peak; the other 6 ms are of 3 blocks
    own = calibration(probe(1e9, 3, 0.016))
    assert calibrated_step_time(shape(5e9, 4), own).step_time_s == pytest.approx(0.05 + 4 * 0.002)


def test_probes_with_other_threads_are_left_aside() -> None:
    own = calibration(probe(1e9, 3, 0.016))
    time = calibrated_step_time(shape(5e9, 4, num_threads=2), own)
    assert "this machine with 2 threads (180 GFLOP/s), not measured" in time.method


def test_probes_beside_as_many_processes_are_preferred() -> None:
    own = calibration(probe(1e9, 3, 0.016), probe(1e9, 3, 0.03, num_processes=2))
    assert calibrated_step_time(shape(1e9, 3, num_processes=2), own).step_time_s == 0.03
    assert calibrated_step_time(shape(1e9, 3), own).step_time_s == 0.016
    assert calibrated_step_time(shape(1e9, 3, num_processes=4), own).step_time_s > 0.016


def test_probes_of_the_same_optimizer_are_preferred() -> None:
    own = calibration(probe(1e9, 3, 0.016), probe(1e9, 3, 0.04, optimizer="muon"))
    assert calibrated_step_time(shape(5e9, 3, optimizer="muon"), own).step_time_s == pytest.approx(
        0.05 + 0.03
    )


def test_a_calibration_survives_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KLEIBER_CACHE", str(tmp_path / "cache"))
    assert load_calibration() is None
    own = calibration(probe(1e9, 3, 0.016, peak_memory_bytes=2e7, planned_peak_bytes=1e7))
    assert save_calibration(own) == calibration_path() == tmp_path / "cache" / "machine.json"
    assert load_calibration() == own


def test_without_the_variable_the_cache_is_in_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KLEIBER_CACHE", raising=False)
    monkeypatch.setenv("HOME", "/home/someone")
    assert calibration_path() == Path("/home/someone/.cache/kleiber/machine.json")


def test_a_torn_calibration_is_refused(tmp_path: Path) -> None:
    (tmp_path / "machine.json").write_text('{"measured_at": ')
    with pytest.raises(RunFolderError, match="truncated or not valid JSON"):
        load_calibration(tmp_path / "machine.json")
