import dataclasses

import pytest
import torch
from torch import nn

from kleiber.compress import speed as speed_module
from kleiber.compress.attempt import open_original
from kleiber.compress.calibration import calibration_of
from kleiber.compress.kept import write_subject
from kleiber.compress.pipeline import StepDone
from kleiber.compress.receipt import _no_gain, _reports, chosen_engine
from kleiber.compress.sizes import counted_side, predicted_bytes
from kleiber.compress.speed import Measuring, Speeds, first_batch, measured_speeds
from kleiber.compress.steps import parse_step
from kleiber.errors import MissingExtraError
from kleiber.models.stored import Activations, LowRank, Masked, Quantized, stored_bytes
from kleiber.runs import Estimate
from kleiber.runs.receipt import EngineRatio, EngineSide

QUICK = Measuring(num_threads=1, num_rounds=2, block_s=0.002, max_batch=1, has_memory=False)


def exact(value):
    return Estimate(value=value, low=value, high=value)


def between(low, high):
    return Estimate(value=(low + high) / 2, low=low, high=high)


def side(engine, workload, latency_s):
    return EngineSide(
        engine=engine,
        workload=workload,
        precision="fp32",
        latency_s=exact(latency_s),
        throughput_per_s=exact(1.0),
        saturation_batch=1,
    )


def ratio(latency, throughput, workload="forward"):
    return EngineRatio(
        engine="onnxruntime",
        workload=workload,
        num_threads=1,
        num_rounds=2,
        latency=latency,
        throughput=throughput,
    )


@pytest.fixture
def subject(trained):
    return open_original(trained, None, 0).subject


def test_no_gain_is_said_where_neither_gets_better_beyond_noise():
    assert _no_gain(ratio(between(1.02, 1.06), exact(1.0))) == (
        "No gain on this device: onnxruntime takes 1.04 times as long for an input at batch 1, with 1.00 times the throughput at "
        "saturation."
    )
    assert "for a token" in _no_gain(ratio(between(0.9, 1.2), between(0.9, 1.2), "decode"))
    assert _no_gain(ratio(between(0.8, 0.9), exact(0.5))) is None
    assert _no_gain(ratio(exact(1.5), between(1.1, 1.3))) is None


def test_the_engine_is_the_soonest_by_token_where_text_is_written():
    sides = (side("torch", "decode", 2.0), side("openvino", "decode", 3.0), side("openvino", "forward", 1.0))
    assert chosen_engine(Speeds(after=sides)) == "torch"
    assert (
        chosen_engine(Speeds(after=(side("torch", "forward", 2.0), side("openvino", "forward", 1.0))))
        == "openvino"
    )
    assert chosen_engine(Speeds()) == "torch"


def test_a_note_stands_at_the_step_that_added_it():
    done = [
        StepDone(step=name, chain=name, seconds=1.0, notes=notes)
        for name, notes in (("a", ("x",)), ("b", ("x", "y")))
    ]
    assert [one.notes for one in _reports(done)] == [("x",), ("y",)]


def test_engines_that_are_not_there_are_listed_with_the_reason(subject, monkeypatch):
    real = speed_module.staged_forward

    def staged(engine, *args, **kwargs):
        if engine != "torch":
            raise MissingExtraError.of(engine, engine, "This engine")
        return real(engine, *args, **kwargs)

    monkeypatch.setattr(speed_module, "staged_forward", staged)
    monkeypatch.setattr(speed_module, "staged_decode", staged_decode_refused)
    speeds = measured_speeds(subject, subject, "val", QUICK)
    assert [(one.engine, one.workload) for one in speeds.ratios] == [("torch", "forward")]
    assert len(speeds.left_out) == 5
    reasons = {(one.engine, one.workload): one.reason for one in speeds.left_out}
    assert (
        reasons["openvino", "forward"] == "This engine needs the package 'openvino', which is not installed."
    )
    assert reasons["torch", "decode"] == "This engine needs the package 'torch', which is not installed."


def staged_decode_refused(engine, *args, **kwargs):
    raise MissingExtraError.of(engine, engine, "This engine")


def test_a_model_of_several_answers_has_no_engine(subject):
    class Two(nn.Module):
        def forward(self, tokens):
            return tokens, tokens

    speeds = measured_speeds(dataclasses.replace(subject, module=Two()), subject, "val", QUICK)
    assert speeds.ratios == ()
    assert {one.engine for one in speeds.left_out} == {"torch", "onnxruntime", "openvino"}
    assert speeds.left_out[0].reason == "it answers with several tensors, and engines answer with one."


@pytest.mark.parametrize(
    "step", ["prune:ratio=0.5", "quantize:bits=4,group_size=8", "quantize:bits=3", "factorize:ratio=0.5"]
)
def test_bytes_are_known_before_they_are_written(subject, tmp_path, step):
    after = parse_step(step).apply(subject, calibration_of(subject.data, 4))
    write_subject(after, tmp_path)
    overhead = stored_bytes(tmp_path) - predicted_bytes(after.module, after.forms)
    header = int.from_bytes((tmp_path / "model.safetensors").read_bytes()[:8], "little") + 8
    # What is left is the names of the tensors, the config, and no more than a few bytes that fill up.
    assert 0 <= overhead - header - (tmp_path / "config.json").stat().st_size < 200


def test_factors_are_what_is_counted(subject):
    sample = first_batch(subject, "val", 1)
    whole = counted_side(subject, sample, 1)
    weight = subject.module.get_parameter("blocks.0.mlp_down")
    R, C = weight.shape
    form = LowRank(torch.ones(R, 2), torch.ones(2, C))
    with torch.no_grad():
        weight.copy_(form.dense())
    thin = counted_side(dataclasses.replace(subject, forms={"blocks.0.mlp_down": form}), sample, 1)
    assert whole.num_params - thin.num_params == R * C - 2 * (R + C)
    assert whole.raw_bytes - thin.raw_bytes == 4 * (R * C - 2 * (R + C))
    assert whole.macs - thin.macs == subject.spec.context * (R * C - 2 * (R + C))


def test_what_is_not_zero_is_counted(subject):
    sample = first_batch(subject, "val", 1)
    whole = counted_side(subject, sample, 1)
    with torch.no_grad():
        subject.module.get_parameter("blocks.0.mlp_down")[0] = 0
    less = counted_side(subject, sample, 1)
    assert whole.num_nonzero - less.num_nonzero == subject.module.get_parameter("blocks.0.mlp_down").shape[1]
    assert whole.num_params == less.num_params


def test_predicted_bytes_by_hand():
    module = nn.Linear(10, 3, bias=False)
    codes = Quantized(
        torch.full((3, 10), 8, dtype=torch.uint8),
        torch.ones(3, 2),
        torch.full((3, 2), 8, dtype=torch.uint8),
        4,
    )
    # 10 codes of 4 bits are 2 words a row; 6 scales in fp16; the shape as two int64.
    assert predicted_bytes(module, {"weight": codes}) == 3 * 2 * 4 + 6 * 2 + 16
    uneven = dataclasses.replace(
        codes, zero_RG=torch.full((3, 2), 7, dtype=torch.uint8), scale_RG=torch.full((3, 2), 0.1)
    )
    assert predicted_bytes(module, {"weight": uneven}) == 3 * 2 * 4 + 6 * 4 + 2 * 4 + 16
    kept = torch.zeros(3, 10, dtype=torch.bool)
    kept[0, :4] = True
    # 4 numbers, 2 bytes of mask a row, where each row begins.
    assert predicted_bytes(module, {"weight": Masked(kept)}) == 4 * 4 + 3 * 2 + 3 * 8 + 16
    assert predicted_bytes(nn.BatchNorm1d(5), {}) == 4 * 5 * 4 + 8


def test_a_cache_of_8_bits_costs_quality_that_is_measured(trained):
    original = open_original(trained, None, 0)
    in_bits = dataclasses.replace(original.subject, activations=Activations(cache_bits=8))
    assert original.quality(original.subject)[0].difference.value == 0
    change = original.quality(in_bits)[0]
    assert 0 < abs(change.difference.value) < 0.05 * change.before.value
