"""What is usual of a study stands under what is asked for, and under a preset."""

import pytest

from kleiber.errors import RecipeError
from kleiber.models import parse_size
from kleiber.runs import Recipe, hash_of
from kleiber.runs.presets import preset
from kleiber.study.growing.asked import usual_recipe


def test_what_is_usual_fills_what_is_left_open():
    recipe = usual_recipe(parse_size("gpt:depth=2"), None, ["train.batch_size=3", "train.seed=9"])
    assert (recipe.data.source, recipe.data.vocab_size, recipe.data.context) == ("stdlib", 512, 128)
    assert (recipe.train.batch_size, recipe.train.seed) == (3, 9)
    assert recipe.train.schedule.cooldown_frac == 0.3


@pytest.mark.parametrize("name", ["fast", "plain"])
def test_a_preset_stands_over_what_is_usual(name):
    recipe = usual_recipe(parse_size("gpt"), None, [f"preset={name}"])
    # A preset says the whole training; of the rest the usual stays.
    assert recipe.train == Recipe().with_values([f"preset={name}"]).train
    assert recipe.data.context == preset(name)["data"]["context"]
    assert (recipe.data.vocab_size, recipe.data.val_tokens) == (512, 32768)
    assert recipe.model.size["mlp"] == preset(name)["model"]["mlp"]


def test_what_is_asked_for_stands_over_the_preset():
    sets = ["preset=fast", "train.schedule.cooldown_frac=0.1", "data.context=128", "model.mlp=swiglu"]
    recipe = usual_recipe(parse_size("gpt"), None, sets)
    assert recipe.train.schedule.cooldown_frac == 0.1
    assert recipe.data.context == 128
    assert recipe.model.size["mlp"] == "swiglu"
    assert recipe.train.optimizer.name == "muon"


def test_another_schedule_takes_no_cool_down():
    recipe = usual_recipe(parse_size("mlp"), None, ["train.schedule.name=constant"])
    assert recipe.train.schedule.name == "constant"
    assert recipe.train.schedule.cooldown_frac == Recipe().train.schedule.cooldown_frac


def test_a_preset_of_another_family_is_refused():
    with pytest.raises(RecipeError, match="preset fast is of the family gpt, got 'mlp'"):
        usual_recipe(parse_size("mlp"), None, ["preset=fast"])


def test_a_part_that_is_no_keys_is_refused_by_the_recipe():
    with pytest.raises(RecipeError, match=r"train\.schedule"):
        usual_recipe(parse_size("mlp"), None, ["train.schedule=wsd"])


def test_no_preset_leaves_the_hash_as_it_was():
    """Else a study that was begun before would be another one."""
    recipe = usual_recipe(parse_size("mlp"), None, [])
    values = [
        "data.source=digits", "task.name=classification", "train.batch_size=64", "train.optimizer.lr=0.002",
        "train.schedule.cooldown_frac=0.3", "model.family=mlp",
    ]  # fmt: skip
    assert hash_of(recipe) == hash_of(Recipe().with_values(values))
