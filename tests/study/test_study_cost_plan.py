from __future__ import annotations

import pytest

from kleiber.cost.layouts import Layout
from kleiber.cost.usage import Usage
from kleiber.errors import RecipeError
from kleiber.models import parse_size, resolve_spec
from kleiber.runs import Recipe
from kleiber.study.cost_document import CostPlan
from kleiber.study.cost_plan import device_bytes, plan_cost, rank_all_layouts
from kleiber.study.job import Job
from kleiber.study.model_cost import costed_family
from kleiber.study.place import Place, here, place_of

SPEC = resolve_spec(Recipe(model=parse_size("gpt:depth=12")))
GPT = costed_family("gpt:depth=12", SPEC, batch_size=64)
USAGE = Usage(batch_size=64, precision="bf16")
ONE = place_of("h100-sxm")


def eight(**layout: int) -> Place:
    return Place(ONE.device, 8, Layout(**layout))


def test_a_plan_is_a_document():
    plan = plan_cost(GPT, USAGE, ONE, Job(tokens=1e9))
    assert CostPlan.of(plan.model_dump(mode="json"), "the plan", RecipeError) == plan


def test_operations_are_six_for_each_parameter_and_token():
    plan = plan_cost(GPT, USAGE, ONE, Job(tokens=1e9))
    # 6 N D, with a little for the scores of 128 tokens.
    assert plan.train_flops == pytest.approx(6 * SPEC.count().total * plan.num_tokens, rel=0.02)
    assert plan.flops.backward == 2 * plan.flops.forward
    work = plan.flops.forward + plan.flops.backward
    assert sum(plan.flops.by_kind.values()) - plan.flops.by_kind.get("optimizer", 0) == work


def test_work_does_not_depend_on_how_it_is_spread():
    one = plan_cost(GPT, USAGE, ONE, Job()).flops
    for layout in ({"ddp": 8}, {"fsdp": 8}, {"fsdp": 4, "tp": 2}):
        spread = plan_cost(GPT, USAGE, eight(**layout), Job()).flops
        assert (spread.forward, spread.backward) == (one.forward, one.backward)


def test_each_layout_splits_what_it_should():
    whole = plan_cost(GPT, USAGE, ONE, Job()).memory_bytes
    ddp = plan_cost(GPT, USAGE, eight(ddp=8), Job()).memory_bytes
    fsdp = plan_cost(GPT, USAGE, eight(fsdp=8), Job()).memory_bytes
    assert ddp.weights == whole.weights
    assert fsdp.weights == pytest.approx(whole.weights / 8, rel=0.01)
    assert ddp.activations < whole.activations
    assert fsdp.peak < ddp.peak < whole.peak


def test_a_job_takes_so_many_steps_and_that_much_money():
    plan = plan_cost(GPT, USAGE, Place(ONE.device, usd_per_hour=2.0), Job(steps=1000))
    assert plan.num_tokens == 1000 * 64 * 128
    assert plan.total_time_s == pytest.approx(1000 * plan.step_time_s)
    assert plan.usd == pytest.approx(2.0 * plan.total_time_s / 3600)
    assert plan.energy_kwh == pytest.approx(0.7 * 1.1 * plan.total_time_s / 3600)
    assert "Money is 2.00 USD an hour for one h100-sxm: the price given." in plan.assumptions
    without = plan_cost(GPT, USAGE, ONE, Job())
    assert (without.total_time_s, without.usd, without.energy_kwh, without.train_flops) == (
        None,
        None,
        None,
        None,
    )
    assert plan_cost(GPT, Usage(batch_size=4), here(None, num_threads=1), Job(steps=1)).usd is None


def test_time_by_kind_adds_up():
    plan = plan_cost(GPT, USAGE, ONE, Job())
    assert sum(part.time_s for part in plan.time_by_kind) == pytest.approx(plan.step_time_s)


def test_what_is_on_disk():
    disk = plan_cost(GPT, USAGE, ONE, Job()).disk
    num = SPEC.count().total
    assert disk.served_bytes["safetensors-bf16"] == 2 * num
    assert disk.checkpoint_bytes == pytest.approx(12 * num, rel=1e-3)
    assert disk.send_time_s["safetensors-fp32"]["10"] == pytest.approx(4 * num * 8 / 1e10)


def test_the_cache_of_what_is_served_is_split_with_the_model():
    usage = Usage(mode="infer", batch_size=64, precision="bf16")
    plan = plan_cost(GPT, usage, eight(ddp=4, tp=2), Job())
    cost = GPT.cost(Usage(mode="infer", batch_size=16, precision="bf16"))
    assert plan.kv_cache_bytes == 2 * 12 * 768 * 64 * 128 * 2
    held = device_bytes(GPT, cost, usage, Layout(ddp=4, tp=2))
    assert held == plan.memory_bytes.peak + plan.kv_cache_bytes / 8
    # So much and no less must a device have.
    for memory, fits in ((held, True), (held - 1, False)):
        device = ONE.device.model_copy(update={"memory_bytes": memory})
        found = plan_cost(GPT, usage, Place(device, 8, Layout(ddp=4, tp=2)), Job())
        assert found.fits is fits
        assert any(sentence.startswith("It does not fit") for sentence in found.assumptions) is not fits
    assert plan_cost(GPT, USAGE, ONE, Job()).kv_cache_bytes is None


def test_modules_to_a_depth():
    assert [part.path for part in plan_cost(GPT, USAGE, ONE, Job(), module_depth=0).modules] == [""]
    modules = plan_cost(GPT, USAGE, ONE, Job(), module_depth=1).modules
    assert [part.path for part in modules] == ["", "blocks"]
    assert modules[0].num_params == SPEC.count().total


def test_layouts_are_ranked_by_the_time_that_a_plan_gives():
    ranked = rank_all_layouts(GPT, USAGE, Place(ONE.device, 8))
    assert len(ranked) == 20
    best = next(one for one in ranked if one.layout == "fsdp=8")
    assert best.step_time_s == plan_cost(GPT, USAGE, eight(fsdp=8), Job()).step_time_s
    assert best.memory_bytes == plan_cost(GPT, USAGE, eight(fsdp=8), Job()).memory_bytes.peak
    small = Place(ONE.device.model_copy(update={"memory_bytes": 1.0}), 8)
    assert not any(one.fits for one in rank_all_layouts(GPT, USAGE, small))


def test_what_does_not_divide():
    with pytest.raises(RecipeError, match="--accumulation 5 must divide the batch of 64 samples"):
        plan_cost(GPT, Usage(batch_size=64, accumulation=5), ONE, Job())
    with pytest.raises(RecipeError, match="tp=8 does not divide the 12 query heads"):
        plan_cost(GPT, USAGE, eight(tp=8), Job())
    with pytest.raises(RecipeError, match="v100 has no peak for this dtype"):
        plan_cost(GPT, USAGE, place_of("v100"), Job())
