"""What calibration runs, how its calls are timed, limits, and what lies between calls."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from kleiber.cost.measured_call import Limits, MeasuredCall, WorkingSet
from kleiber.cost.operations import Operation
from kleiber.cost.trace.step import trace_step
from kleiber.cost.trace.training_step import build_optimizer, prepare_, run_step
from kleiber.cost.usage import Usage
from kleiber.errors import StorageError
from kleiber.models.gpt.operations import step_operations
from kleiber.models.gpt.spec import GPTSpec
from kleiber.models.subject import Inputs
from kleiber.study.calibration import timing
from kleiber.study.calibration.limits import LimitMeter, disk_rates
from kleiber.study.calibration.modules import Encoder, Recurrent, residual_network
from kleiber.study.calibration.overheads import MeasuredStep, fit_overheads, left_out_errors
from kleiber.study.calibration.processor import SPECIMENS
from kleiber.study.calibration.single_calls import SINGLE_CALLS
from kleiber.study.calibration.timing import Clock, StepTimer, dispatch_s
from kleiber.study.calibration.training_steps import STEPS, trained_gpt

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _quick_limits(monkeypatch):
    monkeypatch.setattr("kleiber.study.calibration.limits._WORKING_SETS", (1 << 16, 1 << 20))
    monkeypatch.setattr("kleiber.study.calibration.limits._PRODUCT_SIZES", {"cpu": 128})
    monkeypatch.setattr("kleiber.study.calibration.limits._FRESH_BYTES", 1 << 25)


class Ticking(Clock):
    """Each look at this clock is a second later."""

    def __init__(self):
        super().__init__(CPU)
        object.__setattr__(self, "_ticks", itertools.count())

    def now(self):
        return float(next(self._ticks))


def add_twice(entering):
    entering("forward")
    x = torch.ones(8)
    x.view(2, 4)
    y = x + x
    entering("optimizer")
    y += 1


# --- what is run


def test_specimens_have_steps_and_single_calls():
    assert len(SPECIMENS) == len(STEPS) + len(SINGLE_CALLS)
    assert all(specimen.is_step for specimen in STEPS.values())
    assert not any(specimen.is_step for specimen in SINGLE_CALLS.values())


@pytest.mark.parametrize(
    "name", ["gpt 2x32", "encoder 32", "encoder 64 bf16", "lstm 32", "gru 64", "residual 8", "pooled 6"]
)
def test_a_step_leaves_no_gradients_and_moves_next_to_nothing(name):
    torch.manual_seed(0)
    step = STEPS[name].build()
    phases = []
    for _ in range(2):
        step(phases.append)
    assert phases == ["forward", "backward", "optimizer"] * 2


@pytest.mark.parametrize(
    "name", ["batched (32, 64, 64, 64)", "convolution by channel", "recurrence (20, 32, 64)", "softmax small"]
)
def test_a_single_call_has_both_directions(name):
    phases = []
    SINGLE_CALLS[name].build()(phases.append)
    assert phases == ["forward", "backward"]


def first_class(logits):
    rows = logits.flatten(0, -2)
    return nn.functional.cross_entropy(rows, torch.zeros(len(rows), dtype=torch.int64))


@pytest.mark.parametrize(
    ("build", "make_inputs"),
    [
        (lambda: Recurrent(nn.LSTM, 50, 16, 2), lambda: torch.randint(50, (2, 6))),
        (lambda: Recurrent(nn.GRU, 50, 16, 1), lambda: torch.randint(50, (2, 6))),
        (lambda: Encoder(50, 6, 16, 2), lambda: torch.randint(50, (2, 6))),
        (lambda: residual_network(8), lambda: torch.randn(2, 3, 16, 16)),
    ],
    ids=["lstm", "gru", "encoder", "residual"],
)
def test_calls_are_described_as_a_traced_step_says_them(build, make_inputs):
    usage = Usage(batch_size=2)
    traced = trace_step(build, lambda: Inputs((make_inputs(),)), first_class, usage)
    planned = Counter()
    for operation in traced.operations:
        planned[replace(operation, module="", num_calls=1)] += operation.num_calls
    module, inputs = build(), Inputs((make_inputs(),))
    prepare_(module, usage)
    updates = build_optimizer("adamw", module)
    timer = StepTimer(
        lambda entering: run_step(module, inputs, first_class, updates, usage, entering=entering), Clock(CPU)
    )
    timer.warm_up()
    timer.measure_calls()
    described = {operation: count for operation, (count, _) in timer.call_times(0.0).items()}
    assert described == planned


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_gpt_trains_as_its_closed_form_says(optimizer):
    spec = GPTSpec.from_dial({"depth": 2, "width": 32}, vocab_size=64, context=16)
    usage = Usage(batch_size=2, optimizer=optimizer)
    timer = StepTimer(trained_gpt(spec, 2, optimizer)(), Clock(CPU))
    timer.warm_up()
    timer.measure_calls()
    measured, planned = Counter(), Counter()
    for operation, (count, _) in timer.call_times(0.0).items():
        measured[operation.kind] += count * operation.flops
    for operation in step_operations(spec, usage, 16):
        planned[operation.kind] += operation.total_flops
    assert +measured == +planned


# --- how it is timed


def test_a_step_is_described_without_its_views():
    timer = StepTimer(add_twice, Clock(CPU))
    timer.warm_up()
    timer.measure_calls()
    found = timer.call_times(0.0)
    assert [(call.name, call.kind, call.phase) for call in found] == [
        ("ones", "copy", "forward"),
        ("add", "elementwise", "forward"),
        ("add_", "optimizer", "optimizer"),
    ]
    assert all(count == 1 and time_s > 0 for count, time_s in found.values())


def test_equal_calls_are_one_with_a_count():
    def step(entering):
        entering("forward")
        x = torch.ones(8)
        for _ in range(3):
            x = x * 2

    timer = StepTimer(step, Ticking())
    timer.warm_up()
    timer.measure_calls()
    counts = {call.name: found for call, found in timer.call_times(0.25).items()}
    # A second between two looks, less what timing takes.
    assert counts == {"ones": (1, 0.75), "mul": (3, 0.75)}


def test_a_call_never_takes_nothing():
    timer = StepTimer(add_twice, Ticking())
    timer.warm_up()
    timer.measure_calls()
    assert {time_s for _, time_s in timer.call_times(5.0).values()} == {0.5}


def test_a_step_that_takes_another_way_is_left_out():
    lengths = iter([1, 1, 1, 2, 1])

    def step(entering):
        entering("forward")
        for _ in range(next(lengths, 1)):
            torch.ones(8)

    timer = StepTimer(step, Ticking())
    timer.warm_up()
    timer.measure_calls()
    assert timer.call_times(0.0) == {}
    timer.measure_calls()
    assert len(timer.call_times(0.0)) == 1


def test_a_quick_step_is_run_often_and_a_slow_one_once(monkeypatch):
    runs = []
    slow = StepTimer(lambda _: runs.append(1), Ticking())
    slow.measure_step()
    assert (len(runs), slow.step_time_s) == (1, 1.0)
    monkeypatch.setattr(timing, "_LONG_S", 2.0)
    monkeypatch.setattr(timing, "_BURST_S", 10.0)
    quick = StepTimer(lambda _: runs.append(1), Ticking())
    quick.measure_step()
    # One that warms up, then two ticks a run and one a look, until ten have passed.
    assert len(runs) - 1 == 1 + 4
    assert quick.step_time_s == 1.0


def test_rounds_that_were_disturbed_do_not_count():
    timer = StepTimer(add_twice, Clock(CPU), step_times_s=[9.0, 2.0, 1.9, 30.0, 31.0])
    assert timer.step_time_s == 2.0


def test_what_timing_adds_is_small_and_known():
    assert 0 <= dispatch_s(Clock(CPU)) < 1e-4


# --- limits


def test_limits_are_measured_and_the_best_is_kept():
    meter = LimitMeter(Clock(CPU))
    meter.measure()
    first = meter.limits
    meter.measure()
    second = meter.limits
    assert set(first.peak_flops_per_s) == {"fp32", "bf16", "fp16"}
    assert [known.num_bytes for known in first.bandwidth] == [1 << 16, 1 << 20]
    assert 1e8 < first.peak("fp32") < 1e14
    assert 1e8 < first.bandwidth_at(1 << 20) < 1e13
    assert 1e-8 < first.call_s < 1e-3
    assert all(second.peak(name) >= peak for name, peak in first.peak_flops_per_s.items())
    assert second.call_s <= first.call_s
    assert 1e-13 < meter.fresh_page_s_per_byte < 1e-7


def test_the_disk_is_measured_and_left_clean(tmp_path, monkeypatch):
    monkeypatch.setattr("kleiber.study.calibration.limits._DISK_BYTES", 1 << 20)
    found = disk_rates(tmp_path / "new")
    assert found.write_bytes_per_s > 1e5
    assert found.read_bytes_per_s > 1e5
    assert list((tmp_path / "new").iterdir()) == []


def test_a_disk_that_refuses_is_said(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=r"the disk of .*file could not be measured: "):
        disk_rates(tmp_path / "file")


# --- what lies between the calls

ADD = Operation("add", "elementwise", "forward", "", (8,), 0, 96)
MUL = Operation("mul", "elementwise", "forward", "", (16,), 0, 192)


@given(
    st.floats(0.5, 3), st.floats(0, 1e-4), st.lists(st.integers(1, 900), min_size=3, max_size=9, unique=True)
)
def test_overheads_are_recovered(work_factor, gap_s, counts):
    steps = []
    for index, count in enumerate(counts):
        calls_s = count * 1e-5 * (index + 1) ** 2
        time_s = work_factor * calls_s + (gap_s * count * calls_s) ** 0.5
        steps.append(MeasuredStep(time_s, {ADD: (count, calls_s / count)}))
    found = fit_overheads(steps)
    for step in steps:
        assert found.step_time_s(step.calls_s, step.num_calls) == pytest.approx(step.step_time_s, rel=1e-6)


def test_overheads_are_never_negative():
    # The smaller the calls, the less the steps take of them: the gap would be negative.
    steps = [MeasuredStep(1e-3, {ADD: (10, 2e-4)}), MeasuredStep(9e-3, {ADD: (10, 1e-3)})]
    found = fit_overheads(steps)
    assert found.gap_s == 0
    # Least squares of 2 f - 1 and 10/9 f - 1.
    assert found.work_factor == pytest.approx((2 + 10 / 9) / (4 + 100 / 81))


def test_a_step_left_out_is_predicted_from_the_others():
    sets = (WorkingSet(num_bytes=1, bytes_per_s=1e9),)
    limits = Limits(peak_flops_per_s={"fp32": 1e11}, bandwidth=sets, call_s=1e-6)

    def step(slowness, factor=1.0):
        calls = {op: (4, slowness * limits.least_s(op)) for op in (ADD, MUL)}
        return MeasuredStep(factor * sum(n * time_s for n, time_s in calls.values()), calls)

    alike = left_out_errors(limits, {"a": step(2), "b": step(2)}, [])
    assert alike == pytest.approx({"a": 0, "b": 0}, abs=1e-9)
    # Each from the other: calls half as slow, and twice as slow.
    unlike = left_out_errors(limits, {"a": step(4), "b": step(2)}, [])
    assert unlike == pytest.approx({"a": -0.5, "b": 1.0})
    others = [MeasuredCall.timed(op, 4 * limits.least_s(op)) for op in (ADD, MUL)] * 1000
    assert left_out_errors(limits, {"a": step(4), "b": step(2)}, others)["a"] == pytest.approx(0, abs=0.01)
    assert left_out_errors(limits, {"a": step(4)}, []) == {}
