from __future__ import annotations

from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kleiber.data import open_data, sample_data
from kleiber.data.augment import augment
from kleiber.data.sample_checks import check_source
from kleiber.data.sample_data import open_samples
from kleiber.data.source import ArraySamples, Part, Source
from kleiber.errors import DataError, RecipeError
from kleiber.runs import AugmentRecipe, DataRecipe, DataShape, TaskRecipe

CLASSIFY, REGRESS = TaskRecipe(name="classification"), TaskRecipe(name="regression")


def opened(source="wine", seed=0, task=CLASSIFY, **options):
    return open_samples(DataRecipe(source=source, **options), task, seed=seed)


@settings(max_examples=25)
@given(start=st.integers(0, 400), size=st.integers(1, 200), seed=st.integers(0, 3))
def test_a_batch_is_a_function_of_the_cursor(start, size, seed):
    data = opened(seed=seed, augment=(AugmentRecipe(name="noise"),))
    first, second = islice(data.batches("train", start, size), 2)
    assert (first.cursor, second.cursor) == (start + size, start + 2 * size)
    resumed = next(data.batches("train", first.cursor, size))
    for role, array in second.arrays.items():
        np.testing.assert_array_equal(array, resumed.arrays[role])


def test_an_epoch_sees_every_sample_once_in_an_order_of_its_own():
    data = opened()
    num = data.meta.num_train_tokens
    epochs = [batch.arrays["features"] for batch in islice(data.batches("train", 0, num), 2)]
    assert not (epochs[0] == epochs[1]).all()
    assert {row.tobytes() for row in epochs[0]} == {row.tobytes() for row in epochs[1]}
    assert len({row.tobytes() for row in epochs[0]}) == num


def test_held_out_samples_come_once_in_order_and_unchanged():
    data = opened(val_frac=0.3, test_frac=0.2, augment=(AugmentRecipe(name="noise"),))
    plain = opened(val_frac=0.3, test_frac=0.2, seed=5)
    for split in ("val", "test"):
        sizes = [len(batch) for batch in data.batches(split, 0, 16)]
        assert sum(sizes) == len(data.parts[split])
        assert set(sizes[:-1]) == {16}
        for ours, others in zip(data.batches(split, 3, 7), plain.batches(split, 3, 7), strict=True):
            np.testing.assert_array_equal(ours.arrays["features"], others.arrays["features"])
    assert [batch.cursor for batch in data.batches("val", 0, 16)][-1] == len(data.parts["val"])


def test_training_batches_are_augmented_by_what_was_seen_before():
    recipes = (AugmentRecipe(name="noise"), AugmentRecipe(name="mixup"))
    changed = next(opened(seed=9, augment=recipes).batches("train", 20, 8))
    plain = next(opened(seed=9).batches("train", 20, 8))
    expected = augment(plain.arrays, recipes, seed=9, cursor=20, num_outputs=3)
    assert changed.arrays["labels"].shape == (8, 3)
    for role, array in expected.items():
        np.testing.assert_array_equal(changed.arrays[role], array)


def test_no_sample_is_in_two_splits_and_each_class_is_in_all():
    data = opened(val_frac=0.25, test_frac=0.2, normalization="none")
    rows = {
        split: {
            row.tobytes()
            for batch in islice(data.batches(split, 0, 200), 1)
            for row in batch.arrays["features"]
        }
        for split in ("val", "test")
    }
    rows["train"] = {row.tobytes() for row in next(data.batches("train", 0, 106)).arrays["features"]}
    assert {split: len(found) for split, found in rows.items()} == {"val": 36, "test": 36, "train": 106}
    assert len(rows["val"] | rows["test"] | rows["train"]) == 178
    for part in data.parts.values():
        share = np.bincount(part.labels) / len(part)
        np.testing.assert_allclose(share, np.array([59, 71, 48]) / 178, atol=0.02)


def test_less_data_is_measured_on_the_same_samples():
    metas = [opened("diabetes", task=REGRESS, max_samples=num).meta for num in (20, 200, None)]
    metas.append(opened("diabetes", task=REGRESS, seed=4, duplicates="exact").meta)
    assert [meta.num_train_tokens for meta in metas] == [20, 200, 420, 420]
    assert len({(meta.eval_hash, meta.corpus_hash, meta.target_std) for meta in metas}) == 1
    assert opened("diabetes", task=REGRESS, val_frac=0.1).meta.eval_hash != metas[0].eval_hash
    assert (metas[2].num_duplicates, metas[3].num_duplicates) == (None, 0)


def test_normalization_is_fitted_on_the_samples_that_are_learnt_from():
    data = opened(max_samples=50)
    batch = next(data.batches("train", 0, 50)).arrays["features"]
    np.testing.assert_allclose(batch.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(batch.std(0), 1, atol=1e-4)
    (val,) = data.batches("val", 0, 100)
    assert np.abs(val.arrays["features"].mean(0)).max() > 1e-3
    # What a model must be given again when it is used stands in the record.
    raw = data.parts["val"].samples.gather(np.arange(len(val)))["features"]
    said = data.meta.input_scales["features"]
    np.testing.assert_allclose((raw - said.offset) / said.scale, val.arrays["features"], rtol=1e-4, atol=1e-5)


def test_classes_out_of_balance_are_noted():
    meta = opened("breast_cancer", positive_frac=0.04, val_frac=0.3).meta
    assert meta.class_counts == (10, 250)
    assert meta.notes == ("Classes are out of balance: 10 training samples of 'malignant', 250 of 'benign'.",)


def test_the_front_door_of_all_data_opens_samples_too():
    assert open_data(DataRecipe(source="wine"), seed=0, task=CLASSIFY).meta == opened().meta


def test_without_a_test_split_there_are_no_test_batches():
    assert list(opened().batches("test", 0, 8)) == []


@pytest.mark.parametrize(("cursor", "batch_size"), [(-1, 8), (0, 0)])
def test_impossible_batches_are_refused(cursor, batch_size):
    with pytest.raises(RecipeError, match="cursor of 0 or more and a batch_size of 1 or more"):
        opened().batches("train", cursor, batch_size)


@pytest.mark.parametrize(
    ("source", "options", "task", "message"),
    [
        ("wines", {}, CLASSIFY, r"one of the known kinds for the task classification\. Did you mean 'wine'\? Got 'wines'"),
        ("text:x", {}, CLASSIFY, r"one of the known kinds"),
        ("wine", {}, REGRESS, "does not suit the task regression: it has no numbers to predict"),
        ("diabetes", {}, CLASSIFY, "does not suit the task classification: its samples have no classes"),
        ("wine", {}, TaskRecipe(name="seq2seq"), "it is not made of pairs of texts"),
    ],
)  # fmt: skip
def test_sources_that_do_not_suit_are_refused(source, options, task, message):
    with pytest.raises(DataError, match=message):
        opened(source, task=task, **options)


def test_augmentations_that_do_not_suit_are_refused():
    with pytest.raises(RecipeError, match="flip has nothing to change in features"):
        opened(augment=(AugmentRecipe(name="flip"),))


def part(labels=None, values=None, num=None, roles=("features",)):
    num = num if num is not None else len(labels if labels is not None else values)
    return Part(
        ArraySamples({role: np.ones((num, 3), np.float32) for role in roles}),
        labels=None if labels is None else np.array(labels, np.int64),
        values=None if values is None else np.array(values, np.float32)[:, None],
    )


def source(train, val=None, classes=("a", "b", "c"), **sizes):
    shape = DataShape(inputs="features", num_features=3, num_outputs=len(classes) or 1)
    return Source(shape, train, val, classes=classes, **sizes)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (source(part([])), "the train split is empty"),
        (source(part([0, 1], num=3)), "the train split has 3 samples and 2 labels"),
        (
            source(part([0, 1, 2, 3])),
            r"labels out of range: 1 sample, .* number 3; 3 classes .* 0 to 2\. Got 3",
        ),
        (source(part([0, 0]), part([1])), "training samples of one class only"),
        (source(part([0, 0, 1, 2])), r"2 classes with a single sample, .*: b, c\."),
        (
            source(part(values=[1, np.nan]), classes=()),
            "values of the train split are not all finite: sample 1",
        ),
    ],
)
def test_samples_that_nothing_is_learnt_from_are_refused(found, message):
    with pytest.raises(DataError, match=message):
        check_source(found, name="x")


def test_a_single_sample_of_a_class_suffices_where_others_are_held_out():
    check_source(source(part([0, 1, 2]), part([0])), name="x")


def open_made(monkeypatch, made, task=CLASSIFY, **options):
    monkeypatch.setitem(sample_data.SOURCES, "made", lambda *_, **__: made)
    return opened("made", task=task, **options)


def test_numbers_that_are_not_finite_are_refused(monkeypatch):
    made = source(part([0, 1] * 20))
    made.train.samples.arrays["features"][7, 1] = np.inf
    with pytest.raises(DataError, match="'made': features are not all finite: sample 7 has NaN or infinity"):
        open_made(monkeypatch, made)


def test_texts_have_no_normalization(monkeypatch):
    made = source(part([0, 1] * 20, roles=("tokens",)))
    with pytest.raises(DataError, match=r"data\.normalization has no effect on 'made'.*Got 'unit'"):
        open_made(monkeypatch, made, normalization="unit")


def test_values_that_never_change_have_a_deviation_of_one(monkeypatch):
    meta = open_made(monkeypatch, source(part(values=[4.0] * 40), classes=()), REGRESS).meta
    assert (meta.target_mean, meta.target_std) == ((4.0,), (1.0,))


def test_the_hash_tells_answers_apart(monkeypatch):
    hashes = [
        open_made(monkeypatch, source(part(labels), content_hash=content)).meta.corpus_hash
        for content in (None, "abc")
        for labels in ([0, 1] * 20, [1, 0] * 20)
    ]
    assert len(set(hashes)) == 4


def test_a_part_of_a_part_is_taken_from_the_whole():
    whole = Part(
        ArraySamples({"features": np.arange(10)[:, None]}), labels=np.arange(10), lengths=np.arange(10) + 100
    )
    taken = whole.take(np.array([9, 7, 5])).take(np.array([2, 0]))
    assert taken.labels.tolist() == [5, 9]
    assert taken.lengths.tolist() == [105, 109]
    assert taken.samples.whole is whole.samples
    assert taken.samples.gather(np.array([1]))["features"].tolist() == [[9]]
    assert all(first < second for first, second in pairwise(taken.labels.tolist()))
