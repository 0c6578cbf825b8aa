from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kleiber.data.prepared import MappedSamples, NpyWriter, PreparedMeta, open_prepared
from kleiber.errors import DataError, StorageError


@given(st.lists(st.integers(0, 5), max_size=6))
def test_what_is_appended_is_read(tmp_path_factory, sizes):
    path = tmp_path_factory.mktemp("npy") / "x.npy"
    rows = [np.full((size, 2, 3), number, np.int16) for number, size in enumerate(sizes)]
    writer = NpyWriter(path)
    for each in rows:
        writer.append(each)
    writer.close()
    if rows:
        np.testing.assert_array_equal(np.load(path), np.concatenate(rows))
    else:
        assert np.load(path).shape == (0,)


def test_rows_of_another_kind_are_refused(tmp_path):
    writer = NpyWriter(tmp_path / "x.npy")
    writer.append(np.zeros((1, 2)))
    with pytest.raises(ValueError, match="rows must be"):
        writer.append(np.zeros((1, 3)))
    writer.close()


def test_mapped_samples_are_pickled_by_path(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(40_000).reshape(-1, 2))
    samples = MappedSamples({"features": tmp_path / "x.npy"})
    assert len(samples) == 20_000
    pickled = pickle.dumps(samples)
    assert len(pickled) < 1000
    opened = pickle.loads(pickled)  # noqa: S301 - written above
    assert opened.gather(np.array([3, 1]))["features"].tolist() == [[6, 7], [2, 3]]


def prepare(target):
    np.save(target / "x.npy", np.arange(3))
    return PreparedMeta(content_hash="abc")


def test_it_is_prepared_once_for_a_key(tmp_path):
    first = open_prepared(tmp_path, "images", {"version": 1}, prepare)
    again = open_prepared(tmp_path, "images", {"version": 1}, lambda _: pytest.fail("prepared twice"))
    assert first == again
    assert again.read("x").tolist() == [0, 1, 2]
    assert again.has("x")
    assert not again.has("y")
    assert open_prepared(tmp_path, "images", {"version": 2}, prepare).folder != first.folder


def test_a_failure_leaves_nothing_behind(tmp_path):
    def fail(target):
        np.save(target / "x.npy", np.arange(3))
        raise DataError("broken")

    with pytest.raises(DataError, match="broken"):
        open_prepared(tmp_path, "images", {}, fail)
    assert list((tmp_path / "images").iterdir()) == []


def test_a_damaged_cache_says_what_to_remove(tmp_path):
    folder = open_prepared(tmp_path, "images", {}, prepare).folder
    (folder / "x.npy").write_bytes(b"")
    with pytest.raises(DataError, match=r"the prepared data .* is damaged") as caught:
        open_prepared(tmp_path, "images", {}, prepare).read("x")
    assert caught.value.hint == f"rm -r {folder}   and run again"
    (folder / "meta.json").unlink()
    with pytest.raises(DataError, match=r"the prepared data .* is damaged"):
        open_prepared(tmp_path, "images", {}, prepare)


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "images").write_text("a file")
    with pytest.raises(StorageError, match="cannot write"):
        open_prepared(tmp_path, "images", {}, prepare)
