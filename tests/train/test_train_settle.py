"""What a recipe leaves open: settled once, the same when it is asked again, and refused where nothing fits."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kleiber.errors import RecipeError
from kleiber.models import resolve_spec
from kleiber.runs import DataMeta, DataShape, ModelRecipe, Recipe
from kleiber.train.settle import as_settled, settle

SIZES = st.one_of(
    st.fixed_dictionaries(
        {"width": st.integers(1, 20).map(lambda n: 32 * n)},
        optional={
            "depth": st.integers(1, 30),
            "num_heads": st.sampled_from([2, 4]),
            "head_dim": st.sampled_from([8, 16]),
            "num_kv_heads": st.sampled_from([1, 2]),
            "mlp_width": st.integers(1, 999),
            "is_tied": st.booleans(),
            "rope_theta": st.floats(2, 1e9),
            "norm_eps": st.floats(1e-12, 0.1),
        },
    ),
    st.fixed_dictionaries({"params": st.floats(3e5, 1e9)}, optional={"is_tied": st.booleans()}),
)


IMAGES = DataShape(inputs="images", channels=1, height=8, width=8, num_outputs=10)


def meta(num_train=1000, shape=IMAGES, unit="sample"):
    return DataMeta(
        source="digits", unit=unit, shape=shape, corpus_hash="c", python_version="3", eval_hash="e", num_documents=1,
        num_train_tokens=num_train, num_val_tokens=100,
    )  # fmt: skip


TEXT = meta(10_000, DataShape(inputs="tokens", vocab_size=1024, context=128), "token")


def samples(*assignments):
    size = ["model.family=mlp", "model.depth=1", "model.width=8", "task.name=classification"]
    return Recipe().with_values([*size, "train.batch_size=10", *assignments])


@given(SIZES)
def test_a_settled_recipe_gives_the_same_model_whatever_the_dial_becomes(size):
    recipe = Recipe(model=ModelRecipe(family="gpt", **size))
    try:
        spec = resolve_spec(recipe)
    except RecipeError:  # a width that no heads divide, a target out of reach
        return
    settled = settle(recipe, TEXT, num_threads=2)
    assert resolve_spec(settled) == spec
    assert settled.parallel.num_threads == 2
    assert settle(settled, TEXT, num_threads=3) == settled
    assert as_settled(recipe, settled, TEXT) == settled
    assert Recipe.of(yaml.safe_load(settled.to_yaml()), "recipe.yaml", RecipeError) == settled


def test_the_shape_of_samples_is_settled_and_that_of_text_is_not():
    assert settle(samples(), meta(), num_threads=1).data.shape == IMAGES
    assert settle(Recipe().with_values(["model.depth=2"]), TEXT, num_threads=1).data.shape is None


@pytest.mark.parametrize(
    ("limits", "num_steps"),
    [
        (["train.stop.epochs=3"], 300),
        (["train.stop.tokens=50"], 5),
        (["train.stop.epochs=3", "train.stop.tokens=50"], 5),
        (["train.stop.epochs=3", "train.num_steps=7"], 7),
        (["train.stop.usd=2", "train.stop.usd_per_hour=1"], 3600),
    ],
)
def test_what_is_countable_shortens_the_schedule(limits, num_steps):
    settled = settle(samples(*limits), meta(), num_threads=1, step_time_s=2.0)
    assert settled.train.num_steps == num_steps
    assert as_settled(samples(*limits), settled, meta(), step_time_s=2.0) == settled


def test_more_steps_than_the_run_had_are_another_recipe_unless_its_limit_came_first():
    both = samples("train.stop.epochs=3", "train.num_steps=7")
    settled = settle(both, meta(), num_threads=1)
    assert as_settled(both.with_values(["train.num_steps=9"]), settled, meta()).train.num_steps == 9
    ended = settle(samples("train.stop.epochs=3", "train.num_steps=900"), meta(), num_threads=1)
    asked = samples("train.stop.epochs=3", "train.num_steps=901")
    assert as_settled(asked, ended, meta()) == ended


def test_a_limit_on_operations_is_the_counted_ones():
    recipe = samples("train.stop.flops=1e9")
    step = resolve_spec(settle(samples(), meta(), num_threads=1)).flops(10).total
    assert settle(recipe, meta(), num_threads=1).train.num_steps == round(1e9 / step)


def test_a_full_batch_is_the_training_split():
    recipe = samples("train.is_full_batch=true", "train.accumulation=8")
    settled = settle(recipe, meta(), num_threads=1)
    assert (settled.train.batch_size, settled.num_tokens) == (1000, 1_000_000)
    assert as_settled(recipe, settled, meta()) == settled
    text = Recipe().with_values(["train.is_full_batch=true", "model.depth=2"])
    assert settle(text, TEXT, num_threads=1).train.batch_size == 10_000 // 128
    with pytest.raises(
        RecipeError, match=r"train\.accumulation must divide the full batch of 1000 samples\. Got 3"
    ):
        settle(samples("train.is_full_batch=true", "train.accumulation=3"), meta(), num_threads=1)


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["train.batch_size=1001"], r"train\.batch_size must be at most the 1,000 training samples of 'digits'"),
        (["data.augment=[{name: mixup}]", "train.accumulation=10"], r"mixup needs two samples.* Got '10 / 10'"),
        (["model.norm=batch", "train.batch_size=1"], r"norm batch of mlp that leaves one number a channel needs two"),
        (
            ["model={family: resnet, depth: 18, width: 4}", "train.batch_size=1"],
            r"norm batch of resnet .* needs two samples or more in a micro-batch.* Got '1 / 1'",
        ),
        (
            [
                "model={family: dual, depth: 1, width: 16}", "task.name=contrastive", "train.batch_size=1",
                "data.shape={inputs: captions, vocab_size: 9, context: 8, channels: 1, height: 8, width: 8}",
            ],
            r"contrastive needs two samples",
        ),
    ],
)  # fmt: skip
def test_batches_that_are_too_large_or_too_small_are_refused(assignments, message):
    recipe = samples(*assignments)
    with pytest.raises(RecipeError, match=message):
        settle(recipe, meta(shape=recipe.data.shape or IMAGES), num_threads=1)


def test_the_norm_of_a_batch_is_content_with_one_sample_of_many_pixels():
    size = "model={family: resnet, depth: 8, width: 4}"
    assert settle(samples(size, "train.batch_size=1"), meta(), num_threads=1).train.batch_size == 1
    two = samples("model.norm=batch", "train.batch_size=2")
    assert settle(two, meta(), num_threads=1).train.batch_size == 2


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ("tokens=4", r"train\.stop\.tokens allows no step: a step takes 2\.50 times as much\. Got 4"),
        ("usd=2", r"train\.stop\.usd needs the price of this machine"),
    ],
)
def test_a_limit_without_a_step_or_a_price_is_refused(limit, message):
    with pytest.raises(RecipeError, match=message):
        settle(samples(f"train.stop.{limit}"), meta(), num_threads=1, step_time_s=1.0)


def test_money_needs_a_predicted_step():
    with pytest.raises(RecipeError, match=r"needs a predicted step time"):
        settle(samples("train.stop.usd=2", "train.stop.usd_per_hour=1"), meta(), num_threads=1)
