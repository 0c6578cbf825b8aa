from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kleiber.data import text_stream
from kleiber.data.text_stream import inner_suffix, text_lines, text_parts
from kleiber.errors import DataError, MissingExtraError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stream")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    text=st.text(st.characters(exclude_characters="\0\ufeff", exclude_categories=["Cs"]), max_size=40),
    part_bytes=st.integers(1, 9),
    has_mark=st.booleans(),
)
def test_any_parts_of_any_size_give_the_text_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch, text: str, part_bytes: int, has_mark: bool
) -> None:
    monkeypatch.setattr(text_stream, "_PART_BYTES", part_bytes)
    path = folder / "a.txt"
    path.write_bytes(text.encode("utf-8-sig" if has_mark else "utf-8"))
    whole = text.replace("\r\n", "\n").replace("\r", "\n")
    assert "".join(text_parts(path)) == whole
    lines = list(text_lines(path))
    assert "".join(lines) == whole
    assert all(line.endswith("\n") and line.count("\n") == 1 for line in lines[:-1])


@pytest.mark.parametrize("part_bytes", [1, 2, 3, 5, 100])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("good", ["é中\r\n", "abc"])
def test_the_byte_that_is_not_utf8_is_named_wherever_the_parts_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part_bytes: int, mark: bytes, good: str
) -> None:
    monkeypatch.setattr(text_stream, "_PART_BYTES", part_bytes)
    path = tmp_path / "latin.csv"
    path.write_bytes(mark + good.encode() + b"\xe9" + b"x")
    place = len(mark) + len(good.encode())
    with pytest.raises(
        DataError, match=rf"is not UTF-8 text: byte {place} is 0xe9\.\n  try: iconv .*utf8\.csv"
    ):
        list(text_parts(path))


def test_a_character_that_the_file_cuts_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cut.txt"
    path.write_bytes("ab中".encode()[:-1])
    with pytest.raises(DataError, match="byte 2 is 0xe4"):
        list(text_parts(path))


def test_a_nul_byte_in_a_later_part_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_stream, "_PART_BYTES", 4)
    path = tmp_path / "a.bin"
    path.write_bytes(b"abcdef\0")
    with pytest.raises(DataError, match=r"a\.bin is binary, not text: byte 6 is NUL"):
        list(text_parts(path))


@pytest.mark.parametrize(
    ("name", "packed"),
    [
        ("a.csv.xz", lzma.compress(b"a\nb")),
        ("a.gz", gzip.compress(b"a\nb", mtime=0)),
        ("a.ZST", zstandard.compress(b"a\nb")),
    ],
)
def test_packed_files_are_unpacked(tmp_path: Path, name: str, packed: bytes) -> None:
    (tmp_path / name).write_bytes(packed)
    assert list(text_lines(tmp_path / name)) == ["a\n", "b"]


@pytest.mark.parametrize("pack", [lzma.compress, gzip.compress, zstandard.compress])
@pytest.mark.parametrize("num_missing", [1, 9])
def test_a_packed_file_without_its_end_is_refused(
    tmp_path: Path, pack: Callable[[bytes], bytes], num_missing: int
) -> None:
    suffix = {lzma.compress: ".xz", gzip.compress: ".gz"}.get(pack, ".zst")
    whole = pack(bytes(32 + number * number % 90 for number in range(3000)))
    (tmp_path / f"a{suffix}").write_bytes(whole[:-num_missing])
    with pytest.raises(DataError, match=rf"a\{suffix} is not a whole \{suffix} file"):
        list(text_parts(tmp_path / f"a{suffix}"))


def test_frames_may_follow_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_stream, "_PACKED_BYTES", 5)
    (tmp_path / "a.zst").write_bytes(
        b"".join(zstandard.compress(part.encode()) for part in ("a\nb", "", "c\n", "d"))
    )
    assert list(text_lines(tmp_path / "a.zst")) == ["a\n", "bc\n", "d"]


def test_a_packed_file_that_is_not_there_is_no_torn_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(text_parts(tmp_path / "a.xz"))


def test_a_missing_zstandard_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "zstandard", None)
    (tmp_path / "a.zst").write_bytes(b"")
    with pytest.raises(MissingExtraError, match=r"Reading a\.zst needs the package 'zstandard'"):
        list(text_parts(tmp_path / "a.zst"))


def test_suffixes_are_those_inside_of_the_packing() -> None:
    assert [inner_suffix(name) for name in ("a.tsv", "a.TSV.GZ", "a", "x.y/a.xz")] == [".tsv", ".tsv", "", ""]
