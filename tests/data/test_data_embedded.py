from __future__ import annotations

import sys

import numpy as np
import pytest
from sklearn import datasets

from kleiber.data.sample_data import open_samples
from kleiber.errors import DataError, MissingExtraError
from kleiber.runs import DataRecipe, TaskRecipe


def opened(source, task="classification", **options):
    recipe = DataRecipe(source=source, normalization="none", **options)
    return open_samples(recipe, TaskRecipe(name=task), seed=0)


@pytest.mark.parametrize(("name", "num", "num_features"), [("breast_cancer", 569, 30), ("wine", 178, 13)])
def test_tables_of_classes(name, num, num_features):
    data = opened(name)
    meta, loaded = data.meta, getattr(datasets, f"load_{name}")()
    assert (meta.num_documents, meta.num_train_tokens + meta.num_val_tokens) == (num, num)
    assert meta.num_test_tokens == 0
    assert (meta.shape.inputs, meta.shape.num_features) == ("features", num_features)
    assert meta.classes == tuple(loaded.target_names)
    rows = {
        row.astype(np.float32).tobytes(): target
        for row, target in zip(loaded.data, loaded.target, strict=True)
    }
    batch = next(data.batches("train", 0, 50)).arrays
    assert [rows[row.tobytes()] for row in batch["features"]] == batch["labels"].tolist()


def test_digits_are_grey_images():
    data = opened("digits")
    assert (data.meta.num_documents, len(data.meta.classes)) == (1797, 10)
    loaded = datasets.load_digits()
    known = {
        image.astype(np.float32).tobytes(): label
        for image, label in zip(loaded.images, loaded.target, strict=True)
    }
    (batch,) = data.batches("val", 0, 1000)
    assert batch.arrays["images"].shape == (90, 1, 8, 8)
    assert [known[image[0].tobytes()] for image in batch.arrays["images"]] == batch.arrays["labels"].tolist()


def test_diabetes_is_unscaled():
    data = opened("diabetes", "regression", val_frac=0.1)
    batch = next(data.batches("train", 0, 398)).arrays
    assert batch["features"].shape == (398, 10)
    assert set(np.unique(batch["features"][:, 1])) == {1, 2}
    loaded = datasets.load_diabetes(scaled=False)
    known = {
        row.astype(np.float32).tobytes(): target
        for row, target in zip(loaded.data, loaded.target, strict=True)
    }
    assert [[known[row.tobytes()]] for row in batch["features"]] == batch["values"].tolist()
    assert data.meta.target_mean == pytest.approx((batch["values"].mean(),))
    assert data.meta.target_std == pytest.approx((batch["values"].std(),))


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("wine:red", {}, r"'wine' takes nothing after a colon\. Got 'wine:red'"),
        ("wine", {"image_size": 8}, r"data\.image_size has no effect on 'wine'\. Got 8"),
        (
            "digits",
            {"has_quality_filter": True},
            r"data\.has_quality_filter has no effect on 'digits'\. Got True",
        ),
    ],
)
def test_what_has_no_effect_is_refused(source, options, message):
    with pytest.raises(DataError, match=message):
        opened(source, **options)


def test_scikit_learn_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtraError, match="'wine' needs the package 'scikit-learn'") as caught:
        opened("wine")
    assert caught.value.hint == "pip install 'kleiber[data]'"
