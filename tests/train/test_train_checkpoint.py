import errno
import json
import os
import shutil

import pytest
import torch

from kleiber.errors import CheckpointError, StorageError
from kleiber.train.checkpoint import (
    Checkpoint,
    Counters,
    discard_after,
    list_checkpoints,
    prune,
    read_checkpoint,
    read_newest,
    write_checkpoint,
)


def _checkpoint(step):
    counters = Counters(
        step=step,
        cursor=4 * step,
        elapsed_s=1.5,
        peak_memory_bytes=7,
        num_threads=1,
        recipe_hash="r",
        corpus_hash="c",
    )
    return Checkpoint(
        counters, {"weights.a": torch.arange(6.0).view(2, 3) + step, "rng": torch.get_rng_state()}
    )


def test_what_is_written_is_read(tmp_path):
    written = _checkpoint(120)
    path = write_checkpoint(tmp_path, written)
    assert path.name == "step-00000120"
    read = read_checkpoint(path)
    assert read.counters == written.counters
    assert all(torch.equal(read.tensors[name], value) for name, value in written.tensors.items())


def test_prune_keeps_the_newest_and_the_branch_steps(tmp_path):
    for step in (5, 10, 15, 20, 25):
        write_checkpoint(tmp_path, _checkpoint(step))
    prune(tmp_path, 2, {10})
    assert [path.name[-2:] for path in list_checkpoints(tmp_path)] == ["10", "20", "25"]


def _flip_a_byte(path):
    file = path / "tensors.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def _truncate(path):
    file = path / "tensors.safetensors"
    file.write_bytes(file.read_bytes()[:-10])


def _tear_state(path):
    (path / "state.json").write_text('{"digest": "abc", "coun')


def _drop_state(path):
    (path / "state.json").unlink()


def _drop_a_counter(path):
    state = json.loads((path / "state.json").read_text())
    del state["counters"]["cursor"]
    (path / "state.json").write_text(json.dumps(state))


@pytest.mark.parametrize("damage", [_flip_a_byte, _truncate, _tear_state, _drop_state, _drop_a_counter])
def test_the_one_before_a_corrupt_checkpoint_is_used(tmp_path, damage):
    write_checkpoint(tmp_path, _checkpoint(10))
    damage(write_checkpoint(tmp_path, _checkpoint(20)))
    checkpoint, complaints = read_newest(tmp_path)
    assert checkpoint.counters.step == 10
    assert len(complaints) == 1
    assert "step-00000020 is corrupt" in complaints[0]


def test_no_readable_checkpoint_is_an_error(tmp_path):
    _truncate(write_checkpoint(tmp_path, _checkpoint(10)))
    with pytest.raises(CheckpointError, match=r"no checkpoint below .* can be read: .*corrupt[\s\S]*--fresh"):
        read_newest(tmp_path)


def test_no_checkpoint_is_none(tmp_path):
    assert read_newest(tmp_path / "absent") == (None, [])


def test_a_full_disk_leaves_earlier_checkpoints_whole(tmp_path, monkeypatch):
    write_checkpoint(tmp_path, _checkpoint(10))

    def refuse(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StorageError, match=r"No space left on device\. What was written before is whole\."):
        write_checkpoint(tmp_path, _checkpoint(20))
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000010"]
    assert read_newest(tmp_path)[0].counters.step == 10


def test_what_comes_after_a_step_is_discarded_and_what_was_half_written(tmp_path):
    for step in (5, 10, 15):
        write_checkpoint(tmp_path, _checkpoint(step))
    (tmp_path / ".step-00000020.abc.tmp").mkdir()
    discard_after(tmp_path, 5)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000005"]
    discard_after(tmp_path / "absent", 0)


@pytest.mark.parametrize(
    "remove", [lambda folder: discard_after(folder, 5), lambda folder: prune(folder, 1, ())]
)
def test_a_checkpoint_that_cannot_be_removed_is_said(tmp_path, monkeypatch, remove):
    for step in (5, 10):
        write_checkpoint(tmp_path, _checkpoint(step))

    def refuse(_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(StorageError, match="Read-only file system"):
        remove(tmp_path)
