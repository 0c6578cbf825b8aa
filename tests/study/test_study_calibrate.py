"""Measuring this machine: small specimens, made-up clocks, and what is kept of it."""

from __future__ import annotations

import itertools

import pytest
import torch

from kleiber.cost import Calibration, Probe, load_calibration, save_calibration
from kleiber.cost.rates import Rates
from kleiber.errors import RunFolderError
from kleiber.study import calibrate as calibrating
from kleiber.study import ladder
from kleiber.study.calibrate import calibrate, keep_rates, machine_meters, measure_rates
from kleiber.study.calibration.answers import ANSWERS
from kleiber.study.calibration.processor import SPECIMENS, ProcessorMeter
from kleiber.study.demo_design import demo_designs

CPU = torch.device("cpu")
SMALL = {
    "perceptron 16": SPECIMENS["perceptron 16"],
    "perceptron 128": SPECIMENS["perceptron 128"],
    "product": SPECIMENS["product (64, 64, 256)"],
}

FEW = {name: ANSWERS[name] for name in ("token 2x64", "row 96")}


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("KLEIBER_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def _quick_limits(monkeypatch):
    monkeypatch.setattr("kleiber.study.calibration.limits._WORKING_SETS", (1 << 16, 1 << 20))
    monkeypatch.setattr("kleiber.study.calibration.limits._PRODUCT_SIZES", {"cpu": 128})
    monkeypatch.setattr("kleiber.study.calibration.limits._FRESH_BYTES", 1 << 25)


def small_meters(max_run_s):
    return {1: ProcessorMeter(CPU, 1, SMALL, answers=FEW, max_run_s=max_run_s)}, {}


def test_small_calibration(monkeypatch):
    monkeypatch.setattr("kleiber.study.calibration.limits._DISK_BYTES", 1 << 20)
    told = []
    rates = measure_rates(
        3.0, on_progress=lambda passed_s, what: told.append((passed_s, what)), meters=small_meters
    )
    found = rates.processor(1)
    assert found.title.endswith(", 1 thread")
    assert set(found.check_errors) == {"perceptron 16", "perceptron 128"}
    assert {"addmm", "mm", "relu", "_log_softmax", "addcdiv_"} <= {call.name for call in found.calls}
    product = next(call for call in found.calls if call.shape == (1, 64, 256, 64) and call.phase == "forward")
    assert rates.operation_time_s(product.operation, 1) == pytest.approx(product.time_s, rel=0.9)
    answers = rates.processor(1, mode="infer")
    assert set(answers.check_errors) == set(FEW)
    assert answers.is_streamed
    assert not found.is_streamed
    assert {call.phase for call in answers.calls} == {"forward"}
    assert "_log_softmax" not in {call.name for call in answers.calls}
    seconds = [passed_s for passed_s, _ in told]
    assert seconds == sorted(seconds)
    assert told[0] == (0.0, "disk")
    assert told[-1] == (3.0, "")
    assert {what for _, what in told} >= {
        "threads 1: limits",
        "threads 1: perceptron 16",
        "threads 1: product",
    }


def test_what_is_too_dear_is_left_out():
    meter = ProcessorMeter(CPU, 1, SMALL | {"gpt": SPECIMENS["gpt 2x256"]}, answers={}, max_run_s=0.02)
    for _ in itertools.chain(meter.warm_up(), meter.measure()):
        pass
    assert "gpt" not in meter.rates().check_errors
    assert meter.answer_rates() is None


def test_measuring_leaves_the_threads_as_they_were():
    before = torch.get_num_threads()
    meter = ProcessorMeter(CPU, before + 1, SMALL, answers={})
    seen = [torch.get_num_threads() for _ in itertools.chain(meter.warm_up(), meter.measure())]
    assert set(seen) == {before}
    assert torch.get_num_threads() == before


def test_this_machine_has_one_thread_and_all(monkeypatch):
    monkeypatch.setattr(calibrating, "num_cores", lambda: 6)
    cpu, gpus = machine_meters(1.0)
    assert set(cpu) == {1, 6}
    assert len(gpus) == torch.cuda.device_count()


@pytest.fixture(scope="module")
def rates(tmp_path_factory):
    """Return rates of two small steps and a product, measured once."""
    meter = ProcessorMeter(CPU, 1, SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kleiber.study.calibration.limits._WORKING_SETS", (1 << 16,))
        patch.setattr("kleiber.study.calibration.limits._PRODUCT_SIZES", {"cpu": 128})
        for _ in itertools.chain(meter.warm_up(), meter.measure()):
            pass
    return Rates(measured_at="2026-01-01T00:00:00.000+00:00", torch_version="2", cpu={1: meter.rates()})


PROBE = Probe(
    spec={"family": "gpt"}, optimizer="adamw", num_blocks=1, flops_per_step=1e9, tokens_per_step=8, num_threads=2, step_time_s=0.1
)  # fmt: skip


def test_rates_are_kept_beside_probes(rates):
    save_calibration(Calibration(measured_at="then", peak_flops_per_s={2: 7.0}, probes=(PROBE,)))
    kept = keep_rates(rates)
    assert kept == load_calibration().model_copy(update={"rates": rates})
    assert kept.probes == (PROBE,)
    assert kept.peak_flops_per_s == {1: rates.cpu[1].limits.peak("fp32"), 2: 7.0}
    assert kept.measured_at == rates.measured_at


def test_a_machine_never_measured_gets_rates_alone(rates):
    assert keep_rates(rates).probes == ()
    assert load_calibration().rates.cpu[1].check_errors == rates.cpu[1].check_errors


def test_a_ladder_that_is_measured_keeps_the_rates(rates, monkeypatch):
    keep_rates(rates)
    measured = Calibration(measured_at="now", peak_flops_per_s={1: 5.0}, probes=(PROBE,))
    monkeypatch.setattr(ladder, "calibrate", lambda *_: measured)
    design = demo_designs(0)[0]
    found = ladder.measure_machine(design)
    assert found.probes == (PROBE,)
    assert found.rates == load_calibration().rates
    assert found.rates.cpu[1].check_errors == rates.cpu[1].check_errors


def test_calibrate_measures_and_keeps(rates, monkeypatch):
    asked = []
    monkeypatch.setattr(
        calibrating, "measure_rates", lambda time_s, *, on_progress: asked.append(time_s) or rates
    )
    assert calibrate(7.0).rates is rates
    assert asked == [7.0]
    assert load_calibration().measured_at == rates.measured_at


def test_an_interrupt_leaves_the_old_calibration(rates, monkeypatch):
    keep_rates(rates)
    before = (calibrating.default_cache() / "machine.json").read_bytes()

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(ProcessorMeter, "measure", interrupted)
    monkeypatch.setattr(ProcessorMeter, "warm_up", lambda _: iter(()))
    with pytest.raises(KeyboardInterrupt):
        calibrate(5.0)
    assert [path.name for path in calibrating.default_cache().iterdir()] == ["machine.json"]
    assert (calibrating.default_cache() / "machine.json").read_bytes() == before


def test_a_broken_calibration_is_said_before_anything_is_measured(monkeypatch):
    calibrating.default_cache().mkdir(parents=True)
    (calibrating.default_cache() / "machine.json").write_text("{")
    monkeypatch.setattr(calibrating, "measure_rates", lambda *_, **__: pytest.fail("measured"))
    with pytest.raises(RunFolderError, match=r"machine\.json is truncated or not valid JSON"):
        calibrate(5.0)
