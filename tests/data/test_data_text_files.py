from __future__ import annotations

import gzip
import lzma
import re
import sys
import tempfile
from pathlib import Path

import pytest
import zstandard

from kleiber.data.text_files import text_files
from kleiber.data.text_spool import TextSpool
from kleiber.errors import DataError, MissingExtraError

TEXT = "A line.\n\nAnother line: é, 中文.\n"
RAW = TEXT.encode()


def texts_in(path: Path) -> dict[str, str]:
    with TextSpool(Path(tempfile.gettempdir())) as spool:
        return {passage.document: passage.text for passage in text_files(str(path), None).documents(spool)}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", RAW),
        ("notes", RAW),  # named by the user: any suffix will do
        ("bom.txt", b"\xef\xbb\xbf" + RAW),
        ("windows.txt", RAW.replace(b"\n", b"\r\n")),
        ("a.txt.xz", lzma.compress(RAW)),
        ("a.txt.gz", gzip.compress(RAW, mtime=0)),
        ("a.txt.zst", zstandard.compress(RAW)),
        ("frames.zst", zstandard.compress(RAW[:8]) + zstandard.compress(RAW[8:])),
    ],
)
def test_a_file_is_read_as_text(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert texts_in(tmp_path / name) == {name: TEXT}


def test_a_folder_gives_its_text_files_sorted_and_nothing_else(tmp_path: Path) -> None:
    for name in (
        "b/z.py",
        "b/a.md",
        "a.rst",
        "c.txt.gz",
        "c.png",
        "d.tar.gz",
        ".git/config.txt",
        ".env.txt",
        "empty.txt",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(gzip.compress(RAW) if name.endswith(".gz") else b"" if name.startswith("e") else RAW)
    assert list(texts_in(tmp_path)) == ["a.rst", "b/a.md", "b/z.py", "c.txt.gz"]


def test_the_home_folder_may_be_abbreviated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.txt").write_text(TEXT)
    assert texts_in(Path("~/a.txt")) == {"a.txt": TEXT}


def assert_refused(path: Path, message: str) -> None:
    with pytest.raises(DataError, match=message):
        texts_in(path)


def test_a_missing_path_names_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "novel.txt").write_text(TEXT)
    assert_refused(
        tmp_path / "novell.txt",
        r"there is no such file or folder\. Did you mean 'novel\.txt'\?\n  try: --set",
    )


@pytest.mark.parametrize("typed", ["", "no/such/folder/x.txt"])
def test_a_path_to_nowhere_is_refused(typed: str) -> None:
    with pytest.raises(DataError, match=f"data.source 'text:{typed}': there is no such file or folder"):
        text_files(typed, None)


def test_a_folder_without_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(RAW)
    assert_refused(tmp_path, "the folder holds no text files")


@pytest.mark.parametrize("content", [b"", b" \n\n"])
def test_an_empty_text_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    assert_refused(tmp_path / "a.txt", "is empty: it holds no text")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"abc\0def", "a.txt is binary, not text: byte 3 is NUL"),
        ("a.txt", "é".encode("latin-1"), "a.txt is not UTF-8 text: byte 0 is 0xe9"),
        ("a.txt.xz", lzma.compress(RAW)[:-9], r"a.txt.xz is not a whole \.xz file"),
        ("a.txt.xz", RAW, r"a.txt.xz is not a whole \.xz file"),
        ("a.txt.gz", gzip.compress(RAW, mtime=0)[:-9], r"a.txt.gz is not a whole \.gz file"),
        ("a.txt.gz", RAW, r"a.txt.gz is not a whole \.gz file"),
        ("a.txt.zst", RAW, r"a.txt.zst is not a whole \.zst file"),
    ],
)
def test_what_is_not_text_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert_refused(tmp_path / name, message)


def test_a_file_that_vanishes_is_named(tmp_path: Path, spool: TextSpool) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    files = text_files(str(tmp_path), None)
    (tmp_path / "a.txt").unlink()
    with pytest.raises(DataError, match=r"a\.txt cannot be read: No such file"):
        list(files.documents(spool))


def test_a_field_without_a_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    with pytest.raises(DataError, match=re.escape("data.field names a column of .jsonl and .parquet files")):
        text_files(str(tmp_path), "text")


def test_zst_without_its_package_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.zst").write_bytes(zstandard.compress(RAW))
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(
        MissingExtraError, match=r"Reading a\.zst needs the package 'zstandard'.*\n.*'kleiber\[data\]'"
    ):
        texts_in(tmp_path / "a.zst")
