from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from kleiber.data.sample_data import open_samples
from kleiber.data.spectrograms import Mel, log_mel
from kleiber.errors import DataError
from kleiber.runs import DataRecipe, TaskRecipe

CLASSIFY, REGRESS = TaskRecipe(name="classification"), TaskRecipe(name="regression")
RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (30, 5, 4)).astype(np.uint8)
LABELS = np.arange(30) % 3


def opened(tmp_path, arrays, task=CLASSIFY, name="data.npz", **options):
    np.savez_compressed(tmp_path / name, **arrays)
    recipe = DataRecipe(source=f"npz:{tmp_path / name}", normalization="none", val_frac=0.2, **options)
    return open_samples(recipe, task, seed=0, cache=tmp_path / "cache")


def whole(data, split):
    (batch,) = data.batches(split, 0, 1000)
    return batch.arrays


def test_bytes_with_three_axes_are_grey_images(tmp_path):
    data = opened(tmp_path, {"x_train": GREY, "y_train": LABELS, "x_test": GREY[:4], "y_test": LABELS[:4]})
    assert (data.meta.shape.channels, data.meta.shape.height, data.meta.shape.width) == (1, 5, 4)
    assert data.meta.classes == ("0", "1", "2")
    assert (data.meta.num_train_tokens, data.meta.num_val_tokens, data.meta.num_test_tokens) == (24, 6, 4)
    test = whole(data, "test")
    assert (test["images"] == GREY[:4, None]).all()
    assert test["labels"].tolist() == [0, 1, 2, 0]


def test_channels_may_stand_last(tmp_path):
    colour = RNG.integers(0, 256, (8, 5, 4, 3)).astype(np.uint8)
    arrays = {"x_train": colour, "y_train": np.arange(8) % 2, "x_val": colour[:2], "y_val": np.array([0, 1])}
    assert (whole(opened(tmp_path, arrays), "val")["images"] == colour[:2].transpose(0, 3, 1, 2)).all()
    arrays = {name: x.transpose(0, 3, 1, 2) if x.ndim == 4 else x for name, x in arrays.items()}
    assert (whole(opened(tmp_path, arrays), "val")["images"] == colour[:2].transpose(0, 3, 1, 2)).all()


def test_columns_and_series(tmp_path):
    columns = RNG.normal(size=(30, 7))
    meta = opened(tmp_path, {"x_train": columns, "y_train": LABELS}).meta
    assert (meta.shape.inputs, meta.shape.num_features) == ("features", 7)
    series = RNG.normal(size=(30, 6, 2))
    meta = opened(tmp_path, {"x_train": series, "y_train": RNG.normal(size=(30, 2))}, REGRESS).meta
    assert (meta.shape.inputs, meta.shape.context, meta.shape.num_features) == ("series", 6, 2)
    assert meta.shape.num_outputs == 2


def test_whole_numbers_are_values_of_a_regression(tmp_path):
    arrays = {"x_train": GREY, "y_train": LABELS, "x_val": GREY[:3], "y_val": LABELS[:3]}
    data = opened(tmp_path, arrays, REGRESS)
    assert whole(data, "val")["values"].tolist() == [[0], [1], [2]]
    assert data.meta.target_mean == (1.0,)
    assert data.meta.target_std == pytest.approx((np.sqrt(2 / 3),))
    assert data.meta.classes == ()


def test_names_are_no_values_of_a_regression(tmp_path):
    with pytest.raises(DataError, match="y_train must hold numbers, and it holds names"):
        opened(tmp_path, {"x_train": GREY, "y_train": LABELS.astype(str)}, REGRESS)


def test_classes_may_be_named(tmp_path):
    names = np.array(["wolf", "ant", "bee"])[LABELS]
    data = opened(tmp_path, {"x_train": GREY, "y_train": names, "x_val": GREY[:3], "y_val": names[:3]})
    assert data.meta.classes == ("ant", "bee", "wolf")
    assert whole(data, "val")["labels"].tolist() == [2, 0, 1]
    data = opened(tmp_path, {"x_train": GREY, "y_train": LABELS, "classes": np.array(["a", "b", "c"])})
    assert data.meta.classes == ("a", "b", "c")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": GREY}, r"must be named x_train, y_train; or jpeg, offsets, labels; or .* Got 'x'"),
        (
            {"x_train": GREY, "y_train": LABELS[:3]},
            r"a class or a number for each of the 30 samples\. Got '\(3,\)",
        ),
        ({"x_train": GREY, "y_train": LABELS, "x_val": GREY}, "x_val has no y_val beside it"),
        ({"x_train": GREY[0, 0], "y_train": LABELS[:4]}, r"x_train must be \[N, F\]"),
        ({"x_train": LABELS.astype(str), "y_train": LABELS}, "x_train must be of numbers, and is of <U"),
        (
            {"x_train": GREY, "y_train": LABELS, "x_val": GREY[:, :3], "y_val": LABELS},
            r"one shape, and x_train has \(1, 5, 4\), x_val has \(1, 3, 4\)",
        ),
        (
            {"x_train": GREY, "y_train": LABELS.astype(str), "x_val": GREY[:1], "y_val": np.array(["7"])},
            "y_val has classes that are not known: 7",
        ),
        (
            {"x_train": GREY, "y_train": LABELS, "x_val": GREY[:1], "y_val": np.array([-1])},
            r"val split has labels out of range: 1 sample, .* number 0; 3 classes have labels 0 to 2\. Got -1",
        ),
        (
            {"x_train": GREY, "y_train": LABELS, "x_val": GREY[:4], "y_val": np.array([0, 5, 3, 1])},
            r"labels out of range: 2 samples, the first of which is number 1; .*Got 5",
        ),
        (
            {"x_train": GREY, "y_train": LABELS, "classes": np.array(["a", "b"])},
            "labels out of range: 10 samples",
        ),
        (
            {"x_train": np.where(GREY[0] == GREY[0, 0, 0], np.nan, 1.0), "y_train": LABELS[:5]},
            "sample 0 has NaN",
        ),
        (
            {"x_train": GREY, "y_train": LABELS * 1.5},
            r"y_train must hold a whole number or a name .* Got '\(30,\) of float64'\.\n  try: y_train=y_train\.astype\(int\)",
        ),
        ({"x_train": GREY, "y_train": LABELS * 0}, "of one class only"),
        (
            {"x_train": np.array([object()]), "y_train": LABELS[:1]},
            "array x_train of data.npz holds pickled Python objects",
        ),
        ({"x_train": GREY[:0], "y_train": LABELS[:0]}, "x_train is empty"),
        (
            {"x_train": GREY, "y_train": LABELS * 2**40},
            "there is none of 1, but sample 2 has label 2199023255552",
        ),
        ({"x_train": GREY[:, 0] * 1e300, "y_train": LABELS}, "has NaN or infinity in float32"),
        (
            {"x_train": GREY, "y_train": LABELS, "x_test": GREY[:2], "y_test": np.array([0.4, 1.7])},
            r"y_test must hold whole numbers as y_train does, of one shape\. Got '\(2,\) of float64'",
        ),
        (
            {"x_train": GREY, "y_train": LABELS, "x_val": GREY[:2], "y_val": np.array(["0", "1"])},
            "y_val must hold whole numbers as y_train does",
        ),
        (
            {"x_train": GREY, "y_train": LABELS, "x_test": GREY[:2], "y_test": np.eye(3, dtype=int)[:2]},
            r"y_test must hold whole numbers as y_train does, of one shape\. Got '\(2, 3\)",
        ),
        (
            {"x_train": GREY, "y_train": LABELS, "classes": np.array("cat")},
            "classes must be a name for each label",
        ),
        (
            {"x_train": GREY, "y_train": np.stack([LABELS, LABELS], 1).astype(str)},
            "y_train must hold a class or a number for each of the 30 samples",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, arrays, message):
    with pytest.raises(DataError, match=message):
        opened(tmp_path, arrays)


def test_files_that_are_no_archives_are_refused(tmp_path):
    recipe = DataRecipe(source=f"npz:{tmp_path / 'data.npz'}")
    with pytest.raises(DataError, match="there is no such file"):
        open_samples(recipe, CLASSIFY, seed=0, cache=tmp_path)
    (tmp_path / "data.npz").write_text("no archive")
    with pytest.raises(DataError, match=r"data\.npz is not a whole \.npz file"):
        open_samples(recipe, CLASSIFY, seed=0, cache=tmp_path)
    np.savez(tmp_path / "data.npz", x_train=GREY, y_train=LABELS)
    content = bytearray((tmp_path / "data.npz").read_bytes())
    content[len(content) // 3] ^= 255
    (tmp_path / "data.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"data\.npz cannot be read: Bad CRC"):
        open_samples(recipe, CLASSIFY, seed=0, cache=tmp_path)


def png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def blob(encoded: list[bytes], labels) -> dict[str, np.ndarray]:
    return {
        "jpeg": np.frombuffer(b"".join(encoded), np.uint8),
        "offsets": np.cumsum([0, *map(len, encoded)]),
        "labels": np.array(labels),
        "classes": np.array(["a", "b", "c"]),
    }


def test_encoded_images_with_the_test_split_beside(tmp_path):
    np.savez(tmp_path / "pets_test.npz", **blob([png(image) for image in GREY[:3]], LABELS[:3]))
    data = opened(tmp_path, blob([png(image) for image in GREY[3:]], LABELS[3:]), name="pets_train.npz")
    assert (data.meta.num_train_tokens + data.meta.num_val_tokens, data.meta.num_test_tokens) == (27, 3)
    assert (whole(data, "test")["images"] == GREY[:3, None]).all()
    assert data.meta.notes == ("The test split is pets_test.npz, which stands beside pets_train.npz.",)


def test_encoded_images_are_prepared_anew_at_another_size(tmp_path):
    arrays = blob([png(image) for image in GREY], LABELS)
    assert opened(tmp_path, arrays, image_size=2).meta.shape.height == 2
    recipe = DataRecipe(source=f"npz:{tmp_path / 'data.npz'}", image_size=3)
    assert open_samples(recipe, CLASSIFY, seed=0, cache=tmp_path / "cache").meta.shape.height == 3


def test_encoded_images_that_do_not_decode_take_their_labels_along(tmp_path):
    encoded = [png(image) for image in GREY]
    encoded[2] = b"broken"
    arrays = {**blob(encoded, LABELS), "is_test": np.arange(30) < 6}
    with pytest.raises(DataError, match=r"1 image of 30 cannot be decoded; the first is image 2 of train"):
        opened(tmp_path, arrays)
    data = opened(tmp_path, arrays, skips_bad_samples=True)
    test = whole(data, "test")
    assert test["labels"].tolist() == [0, 1, 0, 1, 2]
    assert (test["images"] == GREY[[0, 1, 3, 4, 5], None]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"offsets": np.array([0, 9, 5])}, "offsets must ascend from 0 to at most the length of jpeg"),
        ({"offsets": np.array([0, 9**9])}, "offsets must ascend"),
        ({"labels": LABELS[:2]}, "labels must be 30 whole numbers, one less than offsets"),
        ({"is_test": np.array([True])}, "is_test must say yes or no of each of the 30 samples"),
    ],
)
def test_offsets_that_do_not_fit_are_refused(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        opened(tmp_path, {**blob([png(image) for image in GREY], LABELS), **change})


def test_splits_must_have_the_same_classes(tmp_path):
    np.savez(tmp_path / "test.npz", **{**blob([png(GREY[0])], [0]), "classes": np.array(["x", "b", "c"])})
    with pytest.raises(DataError, match="the classes of train and test differ"):
        opened(tmp_path, blob([png(image) for image in GREY], LABELS), name="train.npz")


def test_sounds_become_spectrograms(tmp_path):
    lengths = np.array([800, 400] * 10)
    sound = RNG.integers(-(2**15), 2**15, lengths.sum()).astype(np.int16)
    arrays = {
        "audio": sound,
        "offsets": np.cumsum([0, *lengths]),
        "labels": np.arange(20) % 2,
        "sample_rate": np.int32(8000),
        "is_test": np.arange(20) < 2,
    }
    data = opened(tmp_path, arrays)
    assert (data.meta.shape.channels, data.meta.shape.height, data.meta.shape.width) == (1, 40, 16)
    waves = np.zeros((2, 1200), np.float32)
    waves[0, :800], waves[1, :400] = sound[:800] / 2**15, sound[800:1200] / 2**15
    np.testing.assert_allclose(whole(data, "test")["images"][:, 0], log_mel(waves, Mel(8000)), atol=1e-5)
    for rate, got in ((np.int32(0), "0"), (np.full(20, 8000), r"\(20,\)"), (np.array("8 kHz"), "'8 kHz'")):
        with pytest.raises(DataError, match=rf"sample_rate must be one positive number\. Got \[{got}\]"):
            opened(tmp_path, {**arrays, "sample_rate": rate})


def test_pixels_of_arrays_are_not_resized(tmp_path):
    with pytest.raises(DataError, match=r"data\.image_size has no effect"):
        opened(tmp_path, {"x_train": GREY, "y_train": LABELS}, image_size=8)
