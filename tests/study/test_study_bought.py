from __future__ import annotations

import json

import pytest

from kleiber.cost.usage import Usage
from kleiber.errors import RunFolderError, UsageError
from kleiber.models import parse_size, resolve_spec
from kleiber.runs import Recipe
from kleiber.study.bought import best_of_budget, read_law, room_of
from kleiber.study.cost_plan import plan_cost
from kleiber.study.job import Job
from kleiber.study.limits import Limits, is_size_open
from kleiber.study.model_cost import costed_family
from kleiber.study.place import place_of

BESIROGLU = read_law("besiroglu")
SPEC = resolve_spec(Recipe(model=parse_size("gpt:depth=12")))
GPT = costed_family("gpt:depth=12", SPEC, batch_size=64)
USAGE = Usage(batch_size=64, precision="bf16")


def room(limits: Limits, *, usage: Usage = USAGE, **place: float):
    where = place_of("a100-80gb", **place)
    plan = plan_cost(GPT, usage, where, Job())
    return plan, room_of(GPT, plan, where, limits, BESIROGLU)


def test_limits():
    assert not Limits(inference_tokens=1e9).is_asked
    assert Limits(memory_bytes=1e9).is_asked
    assert not Limits(memory_bytes=1e9).has_compute
    assert Limits(hours=1.0).has_compute
    assert Limits(usd=5.0).budget(8).num_devices == 8


@pytest.mark.parametrize(
    ("text", "is_open"),
    [
        ("gpt", True),
        ("gpt:head_dim=64", True),
        ("gpt:depth=2", False),
        ("gpt:params=1e9", False),
        ("my.py:Net", False),
        ("hf:a/b", False),
        ("resnet", True),
    ],
)
def test_sizes_that_are_left_open(text, is_open):
    assert is_size_open(text) is is_open


def test_laws(tmp_path):
    assert read_law("hoffmann").name == "hoffmann"
    with pytest.raises(UsageError, match="'chinchila' is no published law"):
        read_law("chinchila")
    with pytest.raises(UsageError, match=r"--law .*none\.json is no file"):
        read_law(str(tmp_path / "none.json"))
    (tmp_path / "law.json").write_text(json.dumps({"E": 1}))
    with pytest.raises(RunFolderError):
        read_law(str(tmp_path / "law.json"))


def test_the_tightest_limit_says_how_many_steps_are_paid():
    plan, paid = room(Limits(flops=1e18))
    assert paid.num_steps == 1e18 // (plan.flops.forward + plan.flops.backward)
    assert paid.num_tokens == paid.num_steps * 64 * 128
    plan, paid = room(Limits(hours=2.0, flops=1e25))
    assert paid.num_steps == 7200 // plan.step_time_s
    plan, paid = room(Limits(usd=8.0), usd_per_hour=4.0)
    assert paid.num_steps == 7200 // plan.step_time_s


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        (
            Limits(flops=1.0),
            r"--budget-flops does not pay a single step of gpt:depth=12: a step takes .* FLOP\.",
        ),
        (Limits(hours=1e-12), r"--budget-hours does not pay .* hours\."),
        (Limits(usd=1e-12), r"--budget-usd does not pay .* USD\."),
    ],
)
def test_a_budget_below_a_step(limits, sentence):
    with pytest.raises(UsageError, match=sentence) as caught:
        room(limits)
    option, amount = caught.value.hint.split()
    enough = {"--budget-flops": "flops", "--budget-hours": "hours", "--budget-usd": "usd"}[option]
    assert room(Limits(**{enough: float(amount)}))[1].num_steps == pytest.approx(1000, rel=0.01)


def test_the_most_that_fits_does_and_one_more_does_not():
    plan, found = room(Limits(memory_bytes=20e9), memory_bytes=20e9)
    assert found.num_steps is None
    for samples, fits in ((found.micro_batch, True), (found.micro_batch + 1, False)):
        usage = USAGE.model_copy(update={"batch_size": samples})
        assert plan_cost(GPT, usage, place_of("a100-80gb", memory_bytes=20e9), Job()).fits is fits
    assert found.context > plan.context
    assert room(Limits(memory_bytes=1.0), memory_bytes=1.0)[1].micro_batch == 0


def test_more_serving_wants_longer_training():
    tokens = [room(Limits(flops=1e19, inference_tokens=served))[1].optimal_tokens for served in (0.0, 1e12)]
    assert tokens[0] < tokens[1]
    served = USAGE.model_copy(update={"mode": "infer"})
    assert room(Limits(memory_bytes=8e10), usage=served)[1].optimal_tokens is None


def test_a_size_is_found():
    place = place_of("a100-80gb")
    options = {"vocab_size": 1024, "context": 128}
    best = best_of_budget(parse_size("gpt"), USAGE, place, Limits(usd=100.0), BESIROGLU, **options).best
    more = best_of_budget(parse_size("gpt"), USAGE, place, Limits(usd=1000.0), BESIROGLU, **options).best
    assert best.usd == pytest.approx(100, rel=0.01)
    assert more.num_params.total > best.num_params.total
    assert more.loss < best.loss
    with pytest.raises(UsageError, match="nothing is left to train it"):
        best_of_budget(
            parse_size("gpt"),
            USAGE.model_copy(update={"batch_size": 256}),
            place,
            Limits(usd=100.0, inference_tokens=1e12),
            BESIROGLU,
            **options,
        )
