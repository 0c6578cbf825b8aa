from __future__ import annotations

from dataclasses import replace

import pytest

from kleiber.cost import ASSUMED_EFFICIENCY_FRAC, Calibration, Probe
from kleiber.cost.usage import Usage
from kleiber.models import parse_size, resolve_spec
from kleiber.runs import Recipe
from kleiber.study.model_cost import costed_family
from kleiber.study.place import here, place_of
from kleiber.study.planned_time import planned_time

SPEC = resolve_spec(Recipe(model=parse_size("gpt:depth=2,width=32")))
GPT = costed_family("gpt:depth=2,width=32", SPEC, batch_size=4)
USAGE = Usage(batch_size=4)


def calibrated(**changes: object) -> Calibration:
    values = {
        "spec": SPEC.model_dump(mode="json"),
        "optimizer": "adamw",
        "num_blocks": 2,
        "flops_per_step": SPEC.flops(4, 128).total,
        "tokens_per_step": 512,
        "num_threads": 1,
        "step_time_s": 0.01,
    }
    probe = Probe.model_validate(values | changes)
    return Calibration(measured_at="", peak_flops_per_s={1: 1e11}, probes=(probe,))


def test_nothing_measured_is_a_part_of_an_assumed_peak():
    place = here(None, num_threads=1)
    cost = GPT.cost(USAGE)
    time = planned_time(cost, USAGE, place, SPEC)
    work = sum(operation.total_flops for operation in cost.operations)
    assert time.step_time_s == pytest.approx(work / ASSUMED_EFFICIENCY_FRAC / place.device.peak("fp32")[1])
    assert time.by_kind == ()
    assert "not measured; kleiber calibrate measures this machine" in time.says


def test_a_probe_of_the_very_model_comes_first():
    time = planned_time(GPT.cost(USAGE), USAGE, here(calibrated(), num_threads=1), SPEC)
    assert time.step_time_s == 0.01
    assert "probe of this very model" in time.says


@pytest.mark.parametrize(
    "usage",
    [
        Usage(batch_size=4, mode="infer"),
        Usage(batch_size=4, precision="bf16"),
        Usage(batch_size=4, is_checkpointed=True),
        Usage(batch_size=4, optimizer="sgd"),
    ],
)
def test_no_probe_tells_of_other_uses(usage):
    time = planned_time(GPT.cost(usage), usage, here(calibrated(), num_threads=1), SPEC)
    assert "not measured" in time.says
    # Nor of what is no family.
    assert (
        "not measured" in planned_time(GPT.cost(USAGE), USAGE, here(calibrated(), num_threads=1), None).says
    )


def test_elsewhere_it_is_the_devices_roofline():
    usage = Usage(batch_size=4, precision="bf16")
    place = place_of("h100-sxm")
    time = planned_time(GPT.cost(usage), usage, place, SPEC)
    assert sum(part.time_s for part in time.by_kind) == pytest.approx(time.step_time_s)
    assert [part.time_s for part in time.by_kind] == sorted(
        (part.time_s for part in time.by_kind), reverse=True
    )
    assert (time.communication_s, time.bubble_frac) == (0, 0)
    assert "eager kernels on NVIDIA H100" in time.says
    compiled = planned_time(GPT.cost(usage), usage, replace(place, is_compiled=True), SPEC)
    assert "compiled kernels" in compiled.says
    assert compiled.step_time_s < time.step_time_s
