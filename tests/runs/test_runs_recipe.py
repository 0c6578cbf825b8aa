"""Recipes: read from YAML, changed by `--set`, and refused with a reason."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kleiber.errors import RecipeError
from kleiber.runs import Recipe, read_recipe
from kleiber.runs.recipe import parse_scalar


def test_tokens_follow_from_steps_batch_and_context():
    recipe = Recipe().with_values(["train.num_steps=100", "train.batch_size=8", "data.context=64"])
    assert recipe.tokens_per_step == 512
    assert recipe.num_tokens == 51_200


def test_with_values_leaves_the_original_alone():
    recipe = Recipe()
    changed = recipe.with_values(["train.seed=7", "model.depth=3"])
    assert (recipe.train.seed, recipe.model.size) == (0, {})
    assert (changed.train.seed, changed.model.size) == (7, {"depth": 3})


def test_later_assignments_win():
    assert Recipe().with_values(["train.seed=1", "train.seed=2"]).train.seed == 2


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("train.seed", "--set takes KEY=VALUE with a dotted key. Got 'train.seed'.\n  try: --set train.num_steps=2000"),
        ("=3", "--set takes KEY=VALUE with a dotted key. Got '=3'.\n  try: --set train.num_steps=2000"),
        ("train.sede=3", "the recipe: unknown key 'train.sede'. Did you mean 'seed'?"),
        ("train.seed.x=3", "the recipe: train.seed: input should be a valid integer. Got {'x': 3}."),
        ("train.num_steps=-5", "the recipe: train.num_steps: input should be greater than or equal to 1. Got -5."),
        (
            "train.accumulation=3",
            "the recipe: train: accumulation must divide batch_size 4, got 3.",
        ),
        ("train.optimizer.lr=nan", "the recipe: train.optimizer.lr: input should be less than 10. Got nan."),
    ],
)  # fmt: skip
def test_bad_assignments(assignment, message):
    with pytest.raises(RecipeError) as caught:
        Recipe().with_values([assignment])
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("3e-4", 3e-4),
        ("1e3", 1000.0),
        ("true", True),
        ("null", None),
        ("text:a/b c.txt", "text:a/b c.txt"),
        ("a: [", "a: ["),
        ("[1, 2]", [1, 2]),
        ("", None),
    ],
)
def test_parse_scalar(text, value):
    assert parse_scalar(text) == value
    assert type(parse_scalar(text)) is type(value)


@given(st.floats(min_value=1e-12, max_value=9.9))
def test_a_number_survives_the_command_line(lr):
    changed = Recipe().with_values([f"train.optimizer.lr={lr!r}"])
    assert math.isclose(changed.train.optimizer.lr, lr, rel_tol=1e-15)


def test_read_recipe(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("model: {family: gpt, depth: 4}\ntrain:\n  num_steps: 12\n")
    recipe = read_recipe(path)
    assert recipe.model.size == {"depth": 4}
    assert recipe.train.num_steps == 12
    assert recipe.data == Recipe().data


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"train: {num_stps: 3}", r"unknown key 'train\.num_stps'\. Did you mean 'num_steps'\?"),
        (b"a: [", "is truncated or not valid YAML"),
        (b"\xff\xfe\xfa", "cannot be read as a recipe"),
        (b"", r"must hold a mapping of keys to values\. Got 'NoneType'\."),
    ],
)
def test_read_recipe_refuses(tmp_path, content, message):
    path = tmp_path / "r.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=message):
        read_recipe(path)


def test_read_recipe_without_a_file(tmp_path):
    with pytest.raises(RecipeError, match=r"none\.yaml cannot be read as a recipe: .*No such file"):
        read_recipe(tmp_path / "none.yaml")


def test_one_rate_moves_all_unless_two_are_given():
    def rates(*assignments):
        optimizer = Recipe().with_values(assignments).train.optimizer
        return optimizer.lr, optimizer.matrix_lr

    assert rates() == (0.01, 0.003)
    assert rates("train.optimizer.lr=0.1") == (0.1, 0.1)
    assert rates("train.optimizer.name=sgd") == (0.01, 0.01)
    assert rates("train.optimizer.lr=0.1", "train.optimizer.matrix_lr=0.2") == (0.1, 0.2)
    assert rates("train.optimizer.name=muon", "train.optimizer.lr=0.1") == (0.1, 0.003)
    twice = Recipe().with_values(["train.optimizer.lr=0.1"]).with_values(["train.optimizer.lr=0.5"])
    assert twice.train.optimizer.matrix_lr == 0.5


def test_steps_are_open_where_something_countable_ends_the_run():
    assert Recipe().with_values(["train.stop.epochs=2"]).train.num_steps == 10**9
    assert Recipe().with_values(["train.stop.epochs=2", "train.num_steps=5"]).train.num_steps == 5
    assert Recipe().with_values(["train.stop.patience=2"]).train.num_steps == 1000


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("train.branch_steps=[5, 1001]", r"branch_steps must be steps of the run, 1 to 1000, got 1001"),
        ("task.loss=mse", r"loss of lm must be cross_entropy, got mse"),
        ("task.huber_delta=2", r"huber_delta has no effect on lm with loss cross_entropy, got 2\.0"),
        ("task.class_weights=balanced", r"class_weights has no effect on lm"),
        (
            "train.optimizer.is_nesterov=true",
            r"is_nesterov is for sgd with a momentum above 0, got adamw with 0\.95",
        ),
        ("train.schedule.milestones=[0.5, 0.2]", r"milestones must rise between 0 and 1, got \[0\.5, 0\.2\]"),
    ],
)
def test_what_would_have_no_effect_is_refused(assignment, message):
    with pytest.raises(RecipeError, match=message):
        Recipe().with_values([assignment])


def test_momentum_is_what_is_usual_of_each_optimizer():
    momenta = {
        name: Recipe().with_values([f"train.optimizer.name={name}"]).train.optimizer.momentum
        for name in ("sgd", "rmsprop", "muon")
    }
    assert momenta == {"sgd": 0.9, "rmsprop": 0.0, "muon": 0.95}


def test_a_contrastive_batch_is_whole():
    with pytest.raises(
        RecipeError, match=r"cannot be split: accumulation must be 1 and fits_memory false, got 2 and False"
    ):
        Recipe().with_values(["task.name=contrastive", "train.accumulation=2"])
