from __future__ import annotations

import os
import pickle
import pickletools
import struct

import numpy as np
import pytest

from kleiber.data.array_pickle import load_array_pickle
from kleiber.data.sample_data import open_samples
from kleiber.errors import DataError
from kleiber.runs import DataRecipe, TaskRecipe

NAMES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 20, 3072)).astype(np.uint8)
LABELS = (np.arange(120) % 10).reshape(6, 20)


def python2_pickle(data: np.ndarray, labels: list[int]) -> bytes:
    """What Python 2's cPickle wrote with protocol 2 for {"data": data, "labels": labels}."""

    def text(content: bytes) -> bytes:
        return b"U" + bytes([len(content)]) + content

    def number(value: int) -> bytes:
        return b"M" + struct.pack("<H", value)

    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n" + b"cnumpy\nndarray\n" + number(0) + b"\x85" + text(b"b") + b"\x87R"
        b"(K\x01(" + number(len(data)) + number(3072) + b"t"
        b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R(K\x03" + text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89T" + struct.pack("<i", data.size) + data.tobytes() + b"tb"
    )  # fmt: skip
    written = b"\x80\x02}(" + text(b"data") + array
    written += text(b"labels") + b"](" + b"".join(number(label) for label in labels) + b"eu."
    assert len(list(pickletools.genops(written))) > 20
    return written


def open_cifar(folder, tmp_path, **options):
    recipe = DataRecipe(source=f"cifar10:{folder}", normalization="none", **options)
    return open_samples(recipe, TaskRecipe(name="classification"), seed=0, cache=tmp_path / "cache")


def check(data):
    assert (data.meta.num_train_tokens, data.meta.num_val_tokens, data.meta.num_test_tokens) == (90, 10, 20)
    assert data.meta.classes[6] == "frog"
    (test,) = data.batches("test", 0, 100)
    assert (test.arrays["images"].reshape(20, 3072) == IMAGES[5]).all()
    assert test.arrays["labels"].tolist() == LABELS[5].tolist()
    train = next(data.batches("train", 0, 90)).arrays
    known = {
        image.tobytes(): label for image, label in zip(IMAGES.reshape(-1, 3072), LABELS.ravel(), strict=True)
    }
    labels = [known[image.astype(np.uint8).tobytes()] for image in train["images"].reshape(90, 3072)]
    assert labels == train["labels"].tolist()


def test_the_python_version(tmp_path):
    for name, images, labels in zip(NAMES, IMAGES, LABELS.tolist(), strict=True):
        (tmp_path / name).write_bytes(python2_pickle(images, labels))
    check(open_cifar(tmp_path, tmp_path))


def test_the_binary_version(tmp_path):
    for name, images, labels in zip(NAMES, IMAGES, LABELS, strict=True):
        records = np.concatenate([labels[:, None].astype(np.uint8), images], 1)
        (tmp_path / f"{name}.bin").write_bytes(records.tobytes())
    check(open_cifar(tmp_path, tmp_path))


def test_a_pickle_of_our_day_is_read_too(tmp_path):
    (tmp_path / "x").write_bytes(pickle.dumps({"data": IMAGES[0], "labels": [1]}, protocol=4))
    content = load_array_pickle(tmp_path / "x")
    assert content["labels"] == [1]
    assert (content["data"] == IMAGES[0]).all()


class Evil:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Evil(os.mkdir, ("ran",)), r"it names posix\.mkdir, which is not admitted"),
        ({"data": Evil(eval, ("1",))}, r"it names builtins\.eval"),
        ({"data": np.zeros(3)}, "an array is of 'f8', not of bytes"),
        (
            {"data": Evil(np._core.multiarray._reconstruct, (np.ndarray, (10**9,), b"b"))},
            "not begun as NumPy begins",
        ),
        ([1], "it holds a list, not a dict"),
    ],
)
def test_a_pickle_runs_nothing(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").write_bytes(pickle.dumps(content, protocol=4))
    with pytest.raises(DataError, match=message):
        load_array_pickle(tmp_path / "x")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (b"cnumpy\ndtype\n}b.", "it changes what it names"),
        (b"cnumpy\nndarray\n(I1\ntR.", "not callable"),
        (b"Pname\n.", "refers to something outside"),
        (b"no pickle", "is not a pickle of arrays of bytes"),
        (b"", "is not a pickle of arrays of bytes"),
        (python2_pickle(IMAGES[0], [0])[:500], "is not a pickle of arrays of bytes"),
        (python2_pickle(IMAGES[0], [0]).replace(b"M\x14\x00M\x00\x0c", b"M\x15\x00M\x00\x0c"), "as many bytes as its shape"),
    ],
)  # fmt: skip
def test_a_pickle_that_does_otherwise_is_refused(tmp_path, written, message):
    (tmp_path / "x").write_bytes(written)
    with pytest.raises(DataError, match=message):
        load_array_pickle(tmp_path / "x")


def test_folders_and_batches_that_are_not_whole_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"it has no data_batch_1, data_batch_2, .*, test_batch"):
        open_cifar(tmp_path, tmp_path)
    for name in NAMES:
        (tmp_path / name).write_bytes(python2_pickle(IMAGES[0], [1]))
    with pytest.raises(
        DataError, match=r"data_batch_1 is not a batch of CIFAR-10: it needs data \[N, 3072\]"
    ):
        open_cifar(tmp_path, tmp_path)
    for name in NAMES:
        (tmp_path / f"{name}.bin").write_bytes(b"\0" * 3074)
    with pytest.raises(DataError, match=r"must have a multiple of 3073 bytes\. Got 3074"):
        open_cifar(tmp_path, tmp_path)


def test_labels_out_of_range_are_refused(tmp_path):
    for name in NAMES:
        (tmp_path / name).write_bytes(python2_pickle(IMAGES[0], [10] * 20))
    with pytest.raises(DataError, match="10 classes have labels 0 to 9"):
        open_cifar(tmp_path, tmp_path)
