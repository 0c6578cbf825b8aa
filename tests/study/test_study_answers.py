"""What calibration runs without gradients: its calls are those that a traced answer has."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from kleiber.cost.measured_call import Limits, WorkingSet
from kleiber.cost.operations import Operation
from kleiber.infer.bench.traced_calls import forward_operations, text_operations
from kleiber.models import build
from kleiber.models.gpt.spec import GPTSpec
from kleiber.models.resnet import ResNetSpec
from kleiber.runs import DataShape
from kleiber.study.calibration import answers
from kleiber.study.calibration.answers import ANSWERS
from kleiber.study.calibration.overheads import MeasuredStep, left_out_errors, measured_calls
from kleiber.study.calibration.processor import SPECIMENS
from kleiber.study.calibration.timing import Clock, StepTimer


def described(specimen) -> Counter[Operation]:
    timer = StepTimer(specimen.build(), Clock(torch.device("cpu")))
    timer.warm_up()
    timer.measure_calls()
    return Counter({one: count for one, (count, _) in timer.call_times(0.0).items()})


def planned(operations) -> Counter[Operation]:
    found: Counter[Operation] = Counter()
    for one in operations:
        found[replace(one, module="", num_calls=1)] += one.num_calls
    return found


@pytest.mark.parametrize(("num_before", "num_new", "batch"), [(5, 1, 1), (5, 1, 3), (0, 6, 2)])
def test_calls_of_a_language_model_are_described_as_a_traced_answer_says_them(num_before, num_new, batch):
    specimen = answers._gpt(2, 32, 64, num_before=num_before, num_new=num_new, batch=batch)
    spec = GPTSpec.from_dial({"depth": 2, "width": 32}, vocab_size=64, context=num_before + num_new)
    traced = text_operations(spec, batch, num_before=num_before, num_new=num_new)
    assert described(specimen) == planned(traced)


def test_calls_on_images_are_described_as_a_traced_answer_says_them():
    shape = DataShape(inputs="images", channels=3, height=8, width=8, num_outputs=4)
    spec = ResNetSpec.of_size({"depth": 8, "width": 4}, shape)
    specimen = answers._answering(lambda: build(spec), lambda: torch.randn(3, 3, 8, 8))
    traced = forward_operations(spec, [np.zeros((1, 3, 8, 8), np.float32)], 3)
    assert described(specimen) == planned(traced)


def test_answers_are_whole_and_keep_nothing():
    assert all(one.is_step for one in ANSWERS.values())
    assert not set(ANSWERS) & set(SPECIMENS)
    for name in ("token 2x64", "tokens 3x128 of 2", "image 8", "text lstm 160"):
        phases: list[str] = []
        step = ANSWERS[name].build()
        step(phases.append)
        step(phases.append)
        assert phases == ["forward"] * 2
    assert not torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()


ROW = Operation("mm", "matmul", "forward", "", (1, 1, 100, 100), 20_000, 40_800)


def test_a_call_is_measured_beside_all_that_its_model_reads():
    assert [one.among_bytes for one in measured_calls({ROW: (10, 1e-5)}, is_streamed=True)] == [408_000]
    assert [one.among_bytes for one in measured_calls({ROW: (10, 1e-5)})] == [40_800]


def test_an_answer_left_out_is_predicted_by_where_its_weights_are_read_from():
    # Ten times the rate in the cache: an answer of 4 MB streams its weights, one of 41 KB does not.
    sets = (
        WorkingSet(num_bytes=100_000, bytes_per_s=1e11),
        WorkingSet(num_bytes=1_000_000, bytes_per_s=1e10),
    )
    limits = Limits(peak_flops_per_s={"fp32": 1e12}, bandwidth=sets, call_s=1e-7)

    def answer(count: int) -> MeasuredStep:
        time_s = 2 * (40_800 / (1e11 if count == 1 else 1e10) + 1e-7)
        return MeasuredStep(count * time_s, {ROW: (count, time_s)})

    steps = {"small": answer(1), "large": answer(100), "larger": answer(200)}
    assert left_out_errors(limits, steps, [], is_streamed=True) == pytest.approx(
        {"small": 0, "large": 0, "larger": 0}, abs=1e-9
    )
    assert left_out_errors(limits, steps, [])["small"] > 2
