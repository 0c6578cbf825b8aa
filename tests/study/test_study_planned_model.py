from __future__ import annotations

from pathlib import Path

import pytest

from kleiber.errors import RecipeError, UsageError
from kleiber.models import parse_size, resolve_spec
from kleiber.runs import Recipe
from kleiber.study.job import Job
from kleiber.study.place import here, place_of
from kleiber.study.planned_data import size_recipe
from kleiber.study.planned_model import Asked, default_usage, open_planned, shorthand

HERE = here(None, num_threads=1)
H100 = place_of("h100-sxm")
LENET = f"{Path(__file__).parents[2] / 'examples' / 'article_lenet.py'}:Net"


def test_a_size_is_used_as_a_recipes_defaults_say():
    planned = open_planned(Asked("gpt:depth=2"), HERE, Job())
    defaults = Recipe()
    assert planned.usage.batch_size == defaults.train.batch_size
    assert planned.usage.precision == "fp32"
    assert planned.job == Job(steps=defaults.train.num_steps)
    assert planned.model.spec.depth == 2


def test_an_accelerator_is_kept_busy_in_half_precision():
    planned = open_planned(Asked("gpt:depth=2", context=1024), H100, Job(tokens=1e9))
    assert (planned.usage.batch_size, planned.usage.precision) == (32, "bf16")
    assert planned.job == Job(tokens=1e9)
    assert open_planned(Asked("gpt:depth=2"), place_of("v100"), Job()).usage.precision == "fp16"
    many = place_of("h100-sxm", num_devices=8)
    assert default_usage(Asked("gpt"), many, context=1024).batch_size == 256
    assert open_planned(Asked("gpt:depth=2", sets=("train.batch_size=3",)), H100, Job()).usage.batch_size == 3


@pytest.mark.parametrize("name", ["r.yaml", "r.yml", "r.json"])
def test_a_recipe_is_told_by_its_ending_and_its_keys(tmp_path, name):
    text = '{"model": {"family": "gpt", "depth": 3}, "train": {"num_steps": 7, "batch_size": 5}}'
    (tmp_path / name).write_text(text)
    planned = open_planned(Asked(str(tmp_path / name)), H100, Job())
    assert (planned.model.spec.depth, planned.job.steps, planned.usage.batch_size) == (3, 7, 5)


def test_a_class_is_opened_with_its_input():
    planned = open_planned(Asked(LENET, inputs=("16x3x32x32",)), HERE, Job(samples=100))
    assert (planned.usage.batch_size, planned.usage.optimizer, planned.recipe) == (16, "adamw", None)
    assert planned.arguments.inputs == ("16x3x32x32",)
    assert planned.model.tokens_per_sample is None


@pytest.mark.parametrize(
    "text",
    [
        "gpt:depth=12,width=768",
        "gpt:depth=2,width=64,head_dim=16",
        "gpt:depth=3,width=96,mlp_width=100,is_tied=false",
        "gpt:params=124e6",
        "gpt:depth=4,num_kv_heads=1",
        "gpt:depth=2,width=64,num_experts=8",
    ],
)
def test_a_shorthand_is_the_very_spec(text):
    recipe = size_recipe(text)
    spec = resolve_spec(recipe)
    again = recipe.model_copy(update={"model": parse_size(shorthand(spec))})
    assert resolve_spec(again) == spec


def test_a_shorthand_is_short():
    recipe = size_recipe("gpt:depth=12")
    assert shorthand(resolve_spec(recipe)) == "gpt:depth=12,width=768"


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (Asked(" "), "MODEL must not be empty"),
        (Asked("gpt:depth=2", inputs=("8x4", "8x5")), "--input is not for text. Got '8x4 8x5'"),
        (Asked("gpt:depth=2", init="{}"), "--init is for a class"),
        (Asked("gpt:depth=2", loss="mse"), "--loss is for a class"),
        (
            Asked(LENET, inputs=("8x3x32x32",), vocab_size=9),
            "--vocab-size is for recipes and sizes of built-in",
        ),
        (Asked(LENET, inputs=("8x3x32x32",), sets=("a=1", "b=2")), "--set is for recipes .* Got 'a=1 b=2'"),
        (Asked("gpt:depth=2", mode="infer", optimizer="sgd"), "--optimizer is for training"),
        (Asked("gpt:depth=2", mode="infer", accumulation=2), "--accumulation is for training"),
        (Asked("gpt:depth=2", mode="infer", is_checkpointed=True), "--checkpointing is for training"),
    ],
)
def test_what_does_not_suit(asked, sentence):
    with pytest.raises(UsageError, match=sentence):
        open_planned(asked, HERE, Job())


def test_a_device_that_cannot_train():
    device = H100.device.model_copy(update={"peak_flops_per_s": {"int8": 1e15}})
    with pytest.raises(RecipeError, match="h100-sxm has no rate for training"):
        open_planned(Asked("gpt:depth=2"), type(H100)(device), Job())
