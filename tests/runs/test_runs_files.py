"""A reader sees the old file or the new one, never a part."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from kleiber.errors import RunFolderError, StorageError
from kleiber.runs.files import read_lines, storage_errors, write_bytes, write_folder, write_text


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
        "  try: free some space or choose another folder, then run the same command again, without --fresh: it resumes"
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


def test_the_loser_of_a_race_drops_its_work(tmp_path):
    def write(target):
        if not (tmp_path / "it").exists():
            write_folder(tmp_path / "it", lambda other: (other / "winner").touch())
        (target / "loser").touch()

    write_folder(tmp_path / "it", write)
    assert [path.name for path in (tmp_path / "it").iterdir()] == ["winner"]
    assert [path.name for path in tmp_path.iterdir()] == ["it"]


def test_a_full_disk_leaves_no_part_of_a_folder(tmp_path):
    with pytest.raises(StorageError, match=r"cannot write .*it: No space left on device"):
        write_folder(tmp_path / "it", _refuse)
    assert list(tmp_path.iterdir()) == []


def test_the_files_of_a_folder_are_on_disk_before_its_name_is(tmp_path, monkeypatch):
    calls = []
    fsync, rename = os.fsync, Path.rename
    monkeypatch.setattr(os, "fsync", lambda handle: (calls.append("fsync"), fsync(handle)))
    monkeypatch.setattr(Path, "rename", lambda self, to: (calls.append("rename"), rename(self, to)))
    write_folder(tmp_path / "it", lambda folder: (folder / "a").touch())
    assert calls == ["fsync", "fsync", "rename", "fsync"]  # the file, its folder; the parent


@pytest.mark.parametrize(
    ("content", "values"),
    [
        (b"", []),
        (b'{"a": 1}\n{"a": 2}\n', [{"a": 1}, {"a": 2}]),
        (b'{"a": 1}\n{"a', [{"a": 1}]),
        (b'{"a": 1}\n{"a": "\xc3', [{"a": 1}]),
        (b'{"a": 1}', [{"a": 1}]),
        ('{"a": "x\u2028y"}\n'.encode(), [{"a": "x\u2028y"}]),
    ],
)
def test_only_what_a_crash_tore_is_left_out(tmp_path, content, values):
    (tmp_path / "x.jsonl").write_bytes(content)
    assert read_lines(tmp_path / "x.jsonl") == values
    assert read_lines(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize("content", [b'{"a\n', b'{"a": 1}\n{"a\n{"a": 3}', b"\n"])
def test_a_whole_line_that_does_not_parse_is_an_error(tmp_path, content):
    (tmp_path / "x.jsonl").write_bytes(content)
    with pytest.raises(RunFolderError, match=r"x\.jsonl line [12] is not valid JSON"):
        read_lines(tmp_path / "x.jsonl")
