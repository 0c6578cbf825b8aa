from __future__ import annotations

import json
import subprocess
import sys

import pytest

from kleiber.cost import Calibration, Probe, find_device
from kleiber.errors import RecipeError
from kleiber.models import parse_size, resolve_spec
from kleiber.runs import DataRecipe, ParallelRecipe, Recipe, TrainRecipe
from kleiber.study.plan import Plan, plan


def recipe(size: str = "gpt:depth=2,width=32", **parts: object) -> Recipe:
    return Recipe(model=parse_size(size), parallel=ParallelRecipe(num_threads=1), **parts)


def calibrated(**changes: object) -> Calibration:
    values = {
        "spec": resolve_spec(recipe()).model_dump(mode="json"),
        "optimizer": "adamw",
        "num_blocks": 2,
        "flops_per_step": resolve_spec(recipe()).flops(4, 128).total,
        "tokens_per_step": 512,
        "num_threads": 1,
        "step_time_s": 0.01,
    }
    probe = Probe.model_validate(values | changes)
    return Calibration(measured_at="", peak_flops_per_s={1: 1e11}, probes=(probe,))


def test_json_has_the_documented_keys() -> None:
    document = json.loads(plan(recipe()).to_json())
    assert {"total", "embedding", "body", "head"} <= document["num_params"].keys()
    assert set(document["memory_bytes"]) == {"weights", "gradients", "optimizer", "activations", "peak"}
    assert {"train_flops", "step_time_s", "total_time_s", "device", "assumptions", "usd"} <= document.keys()
    assert document["num_params"]["total"] == 59_616
    assert Plan.of(document, "the plan", RecipeError) == plan(recipe())


def test_counts_are_the_specs() -> None:
    planned = plan(recipe(train=TrainRecipe(num_steps=700)))
    spec = resolve_spec(recipe())
    assert planned.num_params == spec.count()
    assert planned.train_flops == 700 * spec.flops(4, 128).total
    assert planned.num_tokens == 700 * 512
    assert planned.memory_bytes.gradients == 4 * 59_616
    # and the table of rotations: cosines and sines of 128 tokens, 16 features
    assert planned.memory_bytes.weights == 4 * (59_616 + 2 * 128 * 16)
    assert planned.memory_bytes.optimizer == 8 * 59_616


def test_a_probe_of_this_model_gives_the_time() -> None:
    planned = plan(recipe(train=TrainRecipe(num_steps=700, val_every=300)), calibration=calibrated())
    assert planned.step_time_s == 0.01
    # three validations of 65,536 tokens: 128 steps' tokens each, a third of a step's work
    assert planned.total_time_s == pytest.approx(700 * 0.01 + 3 * 128 * 0.01 / 3)
    assert any("probe of this very model" in sentence for sentence in planned.assumptions)


def test_muon_takes_longer_than_adamw() -> None:
    own = calibrated(spec={}, step_time_s=0.005)
    adamw = recipe("gpt:depth=6,width=96")
    muon = adamw.with_values(["train.optimizer.name=muon"])
    assert plan(muon, calibration=own).step_time_s > 1.2 * plan(adamw, calibration=own).step_time_s
    assert plan(muon, calibration=own).train_flops == plan(adamw, calibration=own).train_flops


def test_what_probes_held_beside_their_tensors_comes_on_top() -> None:
    bare = plan(recipe(), calibration=calibrated())
    held = plan(recipe(), calibration=calibrated(peak_memory_bytes=9e6, planned_peak_bytes=2e6))
    assert held.memory_bytes.peak - bare.memory_bytes.peak == 7e6
    assert "and the 7.00 MB that probes of this machine held" in " ".join(held.assumptions)
    assert "not what the process" in " ".join(bare.assumptions)


def test_validation_is_planned_as_it_is_done() -> None:
    assert any("peak in the backward of the loss" in sentence for sentence in plan(recipe()).assumptions)
    alone = plan(recipe().with_values(["train.batch_size=1"]))
    assert any("peak in the validation" in sentence for sentence in alone.assumptions)
    short = plan(recipe(data=DataRecipe(val_tokens=128)).with_values(["train.batch_size=1"]))
    assert any("peak in the backward of the loss" in sentence for sentence in short.assumptions)


def test_another_device_has_its_own_time_money_and_precision() -> None:
    planned = plan(recipe("gpt:depth=12"), device=find_device("h100-sxm"), calibration=calibrated())
    assert (planned.device, planned.dtype) == ("h100-sxm", "bf16")
    spec = resolve_spec(recipe("gpt:depth=12"))
    assert planned.step_time_s == pytest.approx(spec.flops(4, 128).total / 0.4 / 989.4e12)
    assert planned.usd == pytest.approx(3.0 * planned.total_time_s / 3600)
    assert any("list price of 2025-06, check yours" in sentence for sentence in planned.assumptions)
    full = plan(recipe("gpt:depth=12"), device=find_device("h100-sxm"), dtype="fp32")
    # What products take and give is half as large; the residual stream, norms and logits stay in fp32.
    assert 0.5 < planned.memory_bytes.activations / full.memory_bytes.activations < 0.8
    assert full.step_time_s > 10 * planned.step_time_s


def test_a_price_given_is_taken() -> None:
    planned = plan(recipe(), usd_per_hour=7.2)
    assert planned.usd == pytest.approx(0.002 * planned.total_time_s)
    assert any("7.2 USD an hour for one cpu: the price given" in sentence for sentence in planned.assumptions)
    assert plan(recipe()).usd is None


def test_what_does_not_fit_is_said() -> None:
    planned = plan(recipe("gpt:params=7e9"), device=find_device("rtx-3090"))
    assert any("It does not fit: rtx-3090 has 24.0 GB" in sentence for sentence in planned.assumptions)
    assert any(
        "The target of 7000000000.0 parameters gave depth" in sentence for sentence in planned.assumptions
    )
    assert not any("fit" in sentence for sentence in plan(recipe(), device=find_device("t4")).assumptions)


def test_absurd_sizes_and_dtypes_are_refused() -> None:
    with pytest.raises(RecipeError, match="gpt size: depth"):
        plan(recipe("gpt:depth=-1"))
    with pytest.raises(RecipeError, match="cpu has no peak for this dtype"):
        plan(recipe(), dtype="bf16")


def test_planning_is_instant_and_without_torch() -> None:
    code = (
        "import sys, time; start = time.perf_counter()\n"
        "from kleiber.models import parse_size\n"
        "from kleiber.runs import Recipe\n"
        "from kleiber.study.plan import plan\n"
        "plan(Recipe(model=parse_size('gpt:params=124e6')))\n"
        "print(time.perf_counter() - start, 'torch' in sys.modules, 'numpy' in sys.modules)"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert output[1:] == ["False", "False"]
    assert float(output[0]) < 1.0
