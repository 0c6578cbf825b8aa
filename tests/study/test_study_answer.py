from __future__ import annotations

from pathlib import Path

import pytest

from kleiber.errors import RecipeError, UsageError
from kleiber.study import answer as answers
from kleiber.study.answer import answer
from kleiber.study.job import Job
from kleiber.study.limits import Limits
from kleiber.study.place import here, place_of
from kleiber.study.planned_model import Asked

H100 = place_of("h100-sxm")
HERE = here(None, num_threads=1)


def test_one_device_is_not_spread():
    plan = answer(Asked("gpt:depth=2"), H100, Job(), Limits())
    assert (plan.layout, plan.layouts, plan.optimum, plan.room, plan.measured) == (
        "ddp=1",
        (),
        None,
        None,
        (),
    )


def test_the_best_layout_is_taken():
    plan = answer(Asked("gpt:depth=12", batch_size=64), place_of("h100-sxm", num_devices=8), Job(), Limits())
    assert plan.layout == plan.layouts[0].layout
    assert plan.step_time_s == min(one.step_time_s for one in plan.layouts if one.fits)


def test_what_fits_nowhere_is_planned_all_the_same():
    place = place_of("h100-sxm", num_devices=2, memory_bytes=1e6)
    plan = answer(Asked("gpt:depth=2", batch_size=2), place, Job(), Limits())
    assert plan.fits is False
    assert plan.memory_bytes.peak == min(one.memory_bytes for one in plan.layouts if one.memory_bytes)


def test_what_cannot_be_spread():
    with pytest.raises(RecipeError, match="There is no way to spread gpt:depth=2 over 7 devices") as caught:
        answer(Asked("gpt:depth=2", batch_size=4), place_of("h100-sxm", num_devices=7), Job(), Limits())
    assert caught.value.hint == "--batch 7"


def test_a_budget_finds_a_size_and_plans_it():
    plan = answer(Asked("gpt:head_dim=32"), H100, Job(), Limits(usd=10.0))
    run = plan.optimum.fitting or plan.optimum.best
    assert plan.spec == run.spec
    assert plan.spec.head_dim == 32
    assert plan.num_params.total == run.num_params.total
    assert plan.num_tokens == pytest.approx(run.num_tokens, rel=1e-3)
    assert plan.room is None


def test_a_budget_trains_a_given_size_for_as_long_as_it_lasts():
    plan = answer(Asked("gpt:depth=12"), H100, Job(), Limits(hours=10.0))
    assert plan.num_steps == plan.room.num_steps
    assert plan.total_time_s == pytest.approx(36_000, rel=0.01)
    asked = answer(Asked("gpt:depth=12"), H100, Job(tokens=1e9), Limits(hours=10.0))
    assert asked.num_steps < asked.room.num_steps
    kept = answer(Asked("gpt:depth=12"), H100, Job(), Limits(memory_bytes=8e10))
    assert (kept.num_steps, kept.room.num_steps) == (1000, None)


@pytest.mark.parametrize(
    ("text", "job", "limits", "law", "sentence"),
    [
        (
            "gpt",
            Job(tokens=5.0),
            Limits(flops=1e19),
            None,
            "--tokens, --samples and --epochs are for a given size",
        ),
        ("gpt:depth=2", Job(), Limits(), "hoffmann", "--law says what is best to do with a budget"),
        (
            "resnet",
            Job(),
            Limits(flops=1e15),
            None,
            "A budget finds the size of a gpt, .* the size of a resnet must",
        ),
        (
            "gpt:num_experts=8",
            Job(),
            Limits(flops=1e15),
            None,
            "num_experts cannot be set where the size is sought",
        ),
        ("gpt:depth=2", Job(), Limits(), "nope", "'nope' is no published law"),
        ("gpt:depth=2", Job(), Limits(inference_tokens=1e9), None, "--inference-tokens says what is best"),
    ],
)
def test_nothing_is_left_aside(text, job, limits, law, sentence):
    with pytest.raises(UsageError, match=sentence):
        answer(Asked(text), H100, job, limits, law=law)


def test_real_steps_run_here(monkeypatch, tmp_path):
    with pytest.raises(UsageError, match="--device is another one, and --measure runs real steps here"):
        answer(Asked("gpt:depth=2"), H100, Job(), Limits(), ledger=tmp_path / "plans.jsonl")
    seen = []
    monkeypatch.setattr(
        answers, "measure_plan", lambda plan, arguments, place: seen.append((plan, arguments)) or ()
    )
    answer(Asked("gpt:depth=2", context=64), HERE, Job(), Limits(), ledger=tmp_path / "plans.jsonl")
    ((plan, arguments),) = seen
    assert (plan.context, arguments.spec, arguments.text) == (64, plan.spec, "gpt:depth=2")
    assert Path(tmp_path / "plans.jsonl").is_file()
