from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kleiber.data.text_files import text_files
from kleiber.data.text_spool import TextSpool
from kleiber.errors import DataError, MissingExtraError

ROWS = [{"id": 1, "text": "one\nline"}, {"id": 2, "text": "two 中文"}, {"id": 3, "text": ""}]


@pytest.fixture
def jsonl(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def documents(path: Path, field: str | None = "text") -> list[tuple[str, str]]:
    with TextSpool(path.parent) as spool:
        return [(passage.document, passage.text) for passage in text_files(str(path), field).documents(spool)]


def test_a_row_of_jsonl_is_a_document(jsonl: Path) -> None:
    assert documents(jsonl) == [("rows.jsonl#0", "one\nline"), ("rows.jsonl#1", "two 中文")]


def test_a_row_of_parquet_is_a_document(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), path)
    assert documents(path) == [("rows.parquet#0", "one\nline"), ("rows.parquet#1", "two 中文")]


def test_a_folder_may_mix_tables_and_texts(jsonl: Path) -> None:
    (jsonl.parent / "a.txt").write_text("plain")
    assert documents(jsonl.parent)[0] == ("a.txt", "plain")
    assert len(documents(jsonl.parent)) == 3


def test_a_table_needs_a_field(jsonl: Path) -> None:
    with pytest.raises(
        DataError, match=r"rows\.jsonl is a table, and data\.field must name.*\n.*data\.field=text"
    ):
        documents(jsonl, None)


def test_an_unknown_field_names_the_nearest(jsonl: Path) -> None:
    with pytest.raises(DataError, match=r"has no column 'txet'\. Did you mean 'text'\?"):
        documents(jsonl, "txet")


def test_a_field_that_is_not_text_is_refused(jsonl: Path) -> None:
    with pytest.raises(DataError, match=r"column 'id' of .* must hold text, and row 0 does not\. Got 'int'"):
        documents(jsonl, "id")


def test_an_empty_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("")
    with pytest.raises(DataError, match="is empty: it holds no text"):
        documents(tmp_path / "rows.jsonl")


@pytest.mark.parametrize(
    ("name", "content"), [("a.jsonl", b'{"text": "a"}\n{"text": \n'), ("a.parquet", b"not parquet")]
)
def test_a_broken_table_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name} is not a whole \.{name[2:]} file"):
        documents(tmp_path / name)


@pytest.mark.parametrize("suffix", ["gz", "xz", "zst", "GZ"])
@pytest.mark.parametrize("field", ["text", None])
def test_a_compressed_table_is_refused_and_not_read_as_text(
    jsonl: Path, suffix: str, field: str | None
) -> None:
    packed = jsonl.rename(jsonl.with_name(f"rows.jsonl.{suffix}"))
    message = rf"rows\.jsonl\.{suffix} is a compressed table, which must be unpacked first\.\n  try: (gzip|xz|zstd) -d"
    for path in (packed, packed.parent):
        with pytest.raises(DataError, match=message):
            documents(path, field)


def test_tables_without_the_package_say_what_to_install(jsonl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        MissingExtraError, match=r"Reading rows\.jsonl needs the package 'datasets'.*\n.*'kleiber\[data\]'"
    ):
        documents(jsonl)
