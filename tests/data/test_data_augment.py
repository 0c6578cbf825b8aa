"""A batch and the augmentations of a recipe: what is drawn, for whom, and what is refused."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kleiber.data.augment import AUGMENTATIONS, augment, check_augment
from kleiber.data.augment.draws import Draws
from kleiber.data.batches import sequence_order
from kleiber.errors import MissingExtraError, RecipeError
from kleiber.runs import AugmentRecipe, DataShape

IMAGES = DataShape(inputs="images", channels=3, height=12, width=10, num_outputs=4)
INDEPENDENT = [name for name in AUGMENTATIONS if name != "mixup"]
"""Those that look at one sample at a time."""


def batch_of(num=8, seed=0):
    generator = np.random.default_rng(seed)
    return {
        "images": generator.normal(size=(num, 3, 12, 10)).astype(np.float32),
        "tokens": generator.integers(1, 1000, (num, 20)),
        "labels": generator.integers(0, 4, num),
    }


def augmented(arrays, *recipes, seed=0, cursor=0):
    chosen = [
        recipe if isinstance(recipe, AugmentRecipe) else AugmentRecipe(name=recipe) for recipe in recipes
    ]
    return augment(arrays, chosen, seed=seed, cursor=cursor, num_outputs=4)


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[role], b[role]) for role in a)


def test_every_name_of_a_recipe_is_there():
    names = AugmentRecipe.model_fields["name"].annotation.__args__
    assert set(names) == set(AUGMENTATIONS)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_it_changes_one_role_keeps_shape_and_type_and_leaves_its_input_alone(name):
    batch, before = batch_of(), batch_of()
    after = augmented(batch, name)
    changed = {role for role in batch if not np.array_equal(batch[role], after[role])}
    wanted = {"token_mask": {"tokens"}, "token_delete": {"tokens"}, "mixup": {"images", "labels"}}
    assert changed == wanted.get(name, {"images"})
    assert same(batch, before)
    for role in changed - {"labels"}:
        assert after[role].shape == batch[role].shape
        assert after[role].dtype == batch[role].dtype
        assert np.isfinite(after[role]).all()


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_the_same_seed_and_cursor_give_the_same_and_others_do_not(name):
    batch = batch_of()
    first = augmented(batch, name, seed=3, cursor=40)
    assert same(first, augmented(batch, name, seed=3, cursor=40))
    assert not same(first, augmented(batch, name, seed=4, cursor=40))
    assert not same(first, augmented(batch, name, seed=3, cursor=48))


@pytest.mark.parametrize("name", INDEPENDENT)
@pytest.mark.parametrize("prob", [1.0, 0.5])
def test_a_sample_is_changed_alike_however_batches_are_split(name, prob):
    batch, recipe = batch_of(7), AugmentRecipe(name=name, prob=prob)
    whole = augmented(batch, recipe, cursor=100)
    parts = [
        augmented({role: array[start:stop] for role, array in batch.items()}, recipe, cursor=100 + start)
        for start, stop in ((0, 3), (3, 4), (4, 7))
    ]
    joined = {role: np.concatenate([part[role] for part in parts]) for role in batch}
    assert same(whole, joined)


def test_the_probability_is_how_often_a_sample_changes():
    batch = batch_of(400)
    after = augmented(batch, AugmentRecipe(name="noise", prob=0.3))
    is_changed = (after["images"] != batch["images"]).any((1, 2, 3))
    assert is_changed.mean() == pytest.approx(0.3, abs=0.07)  # 3 deviations of 400 draws
    assert not is_changed.all()


def test_they_follow_one_another_and_two_of_a_kind_draw_anew():
    batch = batch_of()
    once = augmented(batch, "noise")["images"] - batch["images"]
    twice = augmented(batch, "noise", "noise")["images"] - batch["images"]
    assert twice.std() == pytest.approx(0.1 * 2**0.5, rel=0.05)
    assert not np.allclose(twice, 2 * once, atol=1e-3)
    assert same(augmented(batch), batch)


@given(st.integers(0, 2**31 - 1), st.integers(0, 10**12), st.integers(1, 9), st.integers(1, 6))
@settings(max_examples=30)
def test_draws_depend_on_the_position_of_a_sample_alone(seed, cursor, num, width):
    whole, part = Draws(seed, 0, cursor=cursor, num=num), Draws(seed, 0, cursor=cursor + num - 1, num=1)
    for _ in range(2):
        drawn = whole.uniform(width)
        assert np.array_equal(drawn[-1:], part.uniform(width))
        assert ((drawn >= 0) & (drawn < 1)).all()


def test_draws_are_uniform_and_normal_and_new_at_every_call():
    draws = Draws(1, 0, cursor=0, num=2000)
    first, second = draws.uniform(5), draws.uniform(5)
    for drawn in (first, second):
        counts, _ = np.histogram(drawn, 10, (0, 1))
        assert ((counts - 1000) ** 2 / 1000).sum() < 27.9  # chi-squared of 9 degrees, 1 in 1000
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.04
    normal = draws.normal(5)
    assert (normal.mean(), normal.std()) == pytest.approx((0, 1), abs=0.04)
    assert abs((normal**4).mean() - 3) < 0.3


def test_draws_are_not_those_of_the_order_of_samples():
    order = np.argsort(Draws(0, 0, cursor=0, num=1).uniform(48)[0], kind="stable")
    assert not np.array_equal(order, sequence_order(48, 0, 0))


@pytest.mark.parametrize(
    ("name", "shape", "task"),
    [
        ("flip", DataShape(inputs="features", num_features=4), "classification"),
        ("noise", DataShape(inputs="tokens", vocab_size=300, context=8), "classification"),
        ("token_mask", DataShape(inputs="tokens", vocab_size=300, context=8), "lm"),
        ("token_delete", IMAGES, "classification"),
        ("mixup", DataShape(inputs="tokens", vocab_size=300, context=8), "classification"),
        ("mixup", DataShape(inputs="captions", channels=3, height=8, width=8), "contrastive"),
    ],
)
def test_what_has_nothing_to_change_is_refused(name, shape, task):
    with pytest.raises(RecipeError, match=f"data.augment {name} has nothing to change in .* task {task}"):
        check_augment([AugmentRecipe(name=name)], shape, task)


def test_the_refusal_names_what_would_work():
    tokens = DataShape(inputs="tokens", vocab_size=300, context=8)
    with pytest.raises(RecipeError, match="augmentations that have: token_mask, token_delete"):
        check_augment([AugmentRecipe(name="flip")], tokens, "classification")
    with pytest.raises(RecipeError, match=r"try: --set data.augment=\[\]"):
        check_augment([AugmentRecipe(name="token_mask")], tokens, "lm")


def test_what_suits_passes():
    pairs = DataShape(inputs="pairs", vocab_size=300, context=8)
    captions = DataShape(inputs="captions", channels=3, height=8, width=8, vocab_size=300, context=8)
    features = DataShape(inputs="features", num_features=4)
    check_augment(
        [AugmentRecipe(name=name) for name in AUGMENTATIONS if "token" not in name], IMAGES, "classification"
    )
    check_augment([AugmentRecipe(name="token_mask")], pairs, "seq2seq")
    check_augment([AugmentRecipe(name="flip"), AugmentRecipe(name="token_delete")], captions, "contrastive")
    check_augment([AugmentRecipe(name="mixup"), AugmentRecipe(name="noise")], features, "regression")


def test_strengths_without_meaning_are_refused():
    with pytest.raises(RecipeError, match=r"strength has no effect on data.augment flip\. Got 2\.0"):
        check_augment([AugmentRecipe(name="flip", strength=2)], IMAGES, "classification")
    with pytest.raises(RecipeError, match=r"strength of data.augment cutout must be at most 2\. Got 2\.5"):
        check_augment([AugmentRecipe(name="cutout", strength=2.5)], IMAGES, "classification")


def test_lines_of_pixels_cannot_be_turned():
    line = DataShape(inputs="images", channels=1, height=1, width=9, num_outputs=2)
    with pytest.raises(RecipeError, match=r"rotate needs images of 2 pixels a side or more\. Got '1x9'"):
        check_augment([AugmentRecipe(name="rotate")], line, "classification")


@pytest.mark.parametrize("name", [name for name, kind in AUGMENTATIONS.items() if kind.max_strength])
def test_the_greatest_strength_works(name):
    recipe = AugmentRecipe(name=name, strength=AUGMENTATIONS[name].max_strength)
    after = augmented(batch_of(), recipe)
    assert np.isfinite(after["images"]).all()
    assert (after["tokens"] > 0).any(1).all()


def test_seq2seq_changes_the_source_alone():
    batch = {"source": batch_of()["tokens"], "target": batch_of()["tokens"]}
    after = augmented(batch, "token_mask")
    assert not np.array_equal(after["source"], batch["source"])
    assert np.array_equal(after["target"], batch["target"])


def test_without_kornia_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "kornia.geometry.transform", None)
    with pytest.raises(MissingExtraError, match="the augmentation rotate needs the package 'kornia'"):
        augmented(batch_of(), "rotate")
