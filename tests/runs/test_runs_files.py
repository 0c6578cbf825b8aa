"""A reader sees the old file or the new one, never a part."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from kleiber.errors import StorageError
from kleiber.runs.files import storage_errors, write_bytes, write_text


def _refuse(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("step", ["os.fsync", "tempfile.mkstemp", "pathlib.Path.replace"])
def test_a_full_disk_leaves_the_old_file_whole(tmp_path, monkeypatch, step):
    path = tmp_path / "record.json"
    write_text(path, "old")
    with monkeypatch.context() as patch:
        patch.setattr(step, _refuse)
        with pytest.raises(StorageError) as caught:
            write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    assert str(caught.value) == (
        f"cannot write {path}: No space left on device. What was written before is whole.\n"
        "  try: free some space or choose another folder, then run the same command again: it resumes"
    )


def test_ctrl_c_in_the_middle_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "record.json"
    write_text(path, "old")

    def interrupt(_handle):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_content_is_on_disk_before_the_name_points_at_it(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (calls.append("fsync"), fsync(handle)))
    monkeypatch.setattr(Path, "replace", lambda self, to: (calls.append("replace"), replace(self, to)))
    write_bytes(tmp_path / "a" / "b.bin", b"\x00\x01")
    assert calls == ["fsync", "replace", "fsync"]  # the last one is the folder's
    assert (tmp_path / "a" / "b.bin").read_bytes() == b"\x00\x01"


def test_files_are_readable_by_others(tmp_path):
    write_text(tmp_path / "x", "é")
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "x").read_text(encoding="utf-8") == "é"


def test_a_folder_where_a_file_stands_is_refused(tmp_path):
    write_text(tmp_path / "file", "x")
    with pytest.raises(
        StorageError, match=r"cannot write .*file/record\.json: (Not a directory|File exists)"
    ):
        write_text(tmp_path / "file" / "record.json", "y")


def test_errors_that_are_not_the_disks_pass_through(tmp_path):
    with pytest.raises(ZeroDivisionError), storage_errors(tmp_path):
        _ = 1 // 0
