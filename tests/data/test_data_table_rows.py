"""Rows of .csv, .tsv, .jsonl and .parquet files through the table that they make."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kleiber.data.table import table
from kleiber.data.table.opening import open_table
from kleiber.data.table.table import Table
from kleiber.errors import DataError, MissingExtraError


def table_of(folder: Path, name: str, content: str, *, skips_bad: bool = False) -> Table:
    (folder / name).write_text(content, encoding="utf-8")
    return open_table(f"pairs:{folder / name}", str(folder / name), skips_bad=skips_bad)


def cells_of(table: Table) -> dict[str, list[Any]]:
    chunks = list(table.chunks())
    return {name: [cell for rows in chunks for cell in rows.columns[name]] for name in table.columns}


@pytest.mark.parametrize(
    ("name", "content", "cells"),
    [
        ("a.csv", "a, b\n1, x\n\n2, y \n", {"a": ["1", "2"], "b": ["x", "y"]}),
        ("a.csv", "a;b\n1,5;x\n", {"a": ["1,5"], "b": ["x"]}),
        ("a.csv", "a\tb\n1\tx\n", {"a": ["1"], "b": ["x"]}),
        ("a.csv", 'a,b\n"1\n2","say ""hi"", he"\n', {"a": ["1\n2"], "b": ['say "hi", he']}),
        ("a.csv", "1,x\n2,y\n", {"column_1": ["1", "2"], "column_2": ["x", "y"]}),
        ("a.csv", "?,x\n1,y\n", {"?": ["1"], "x": ["y"]}),
        ("a.csv", ",b\n1,y\n", {"column_1": ["1"], "b": ["y"]}),
        ("a.tsv", 'a\tb\n"x\ty, "z"\n', {"a": ['"x'], "b": ['y, "z"']}),
        ("a.jsonl", '{"a": 1, "b": null}\n\n{"b": "x\\n", "c": true}\n',
         {"a": [1, None], "b": [None, "x\n"], "c": [None, True]}),
    ],
)  # fmt: skip
def test_rows_are_read_as_the_format_says(
    tmp_path: Path, name: str, content: str, cells: dict[str, list[Any]]
) -> None:
    table = table_of(tmp_path, name, content)
    assert cells_of(table) == cells
    assert cells_of(table) == cells, "as often as it is asked for"
    assert table.has_types == name.endswith(".jsonl")


def test_chunks_keep_the_lines_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "CHUNK_ROWS", 2)
    chunks = list(table_of(tmp_path, "a.csv", 'a,b\nx,1\n\n"y\ny",2\nz,3\n').chunks())
    assert [list(rows.numbers) for rows in chunks] == [[2, 5], [6]]
    assert chunks[1].place(0) == f"line 6 of {tmp_path}/a.csv"


def test_parquet_keeps_its_types_and_its_splits(tmp_path: Path) -> None:
    for split, numbers in (("train", [1, 2]), ("test", [3])):
        pq.write_table(pa.table({"a": numbers, "b": ["x"] * len(numbers)}), tmp_path / f"{split}.parquet")
    table = open_table(f"parquet:{tmp_path}", str(tmp_path), skips_bad=False)
    assert [(rows.split, rows.columns["a"], list(rows.numbers)) for rows in table.chunks()] == [
        ("test", [3], [1]),
        ("train", [1, 2], [1, 2]),
    ]
    assert len({size for _, size, _ in table.stats}) >= 1
    assert [Path(path).name for path, _, _ in table.stats] == ["test.parquet", "train.parquet"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", r"a\.csv is empty: it has no row"),
        ("a.csv", "a,a\nx,y\n", r"a\.csv has two columns called 'a'"),
        ("a.csv", "a,b\nx,y\nz\n",
         r"line 3 of .*a\.csv has 1 cells, and the table has 2 columns\. Got 'z'\.\n  try: .*skips_bad_samples=true"),
        ("a.csv", 'a,b\nx,"y\nz,w\n', r"a\.csv does not parse at line 3: unexpected end of data"),
        ("a.jsonl", "\n", r"a\.jsonl is empty: it has no row"),
        ("a.jsonl", '{"a": 1}\n[2]\n', r"line 2 of .*a\.jsonl is no JSON object: it holds no object"),
        ("a.jsonl", '{"a": 1\n', r"line 1 of .*a\.jsonl is no JSON object: Expecting ',' delimiter"),
        ("a.parquet", "no", r"a\.parquet is not a whole \.parquet file"),
    ],
)  # fmt: skip
def test_what_does_not_parse_is_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        cells_of(table_of(tmp_path, name, content))


@pytest.mark.parametrize(
    ("name", "content"), [("a.csv", "a,b\nx,y\nz\nv,w\n"), ("a.jsonl", '{"a": "x"}\n[2]\n{\n{"a": "v"}\n')]
)
def test_bad_rows_are_counted_and_left_out_on_request(tmp_path: Path, name: str, content: str) -> None:
    table = table_of(tmp_path, name, content, skips_bad=True)
    assert cells_of(table)["a"] == ["x", "v"]
    assert (
        sum(rows.num_bad for rows in table.chunks()) == content.count("z\n") + content.count("[2]\n{\n") * 2
    )


def test_a_torn_parquet_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": list(range(5000))}), tmp_path / "a.parquet")
    table = open_table(f"parquet:{tmp_path}/a.parquet", f"{tmp_path}/a.parquet", skips_bad=False)
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(b"PAR1" + b"\xff" * 200 + whole[204:])
    with pytest.raises(DataError, match=r"a\.parquet is not a whole \.parquet file"):
        list(table.chunks())


def test_files_of_other_columns_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\nx,y\n")
    for columns, message in (
        ("a,c", r"a\.csv and b\.csv must have the same columns, and only one of them has 'b'"),
        ("b,a", r"b\.csv has the columns of a\.csv in another order"),
    ):
        (tmp_path / "b.csv").write_text(f"{columns}\nx,y\n")
        with pytest.raises(DataError, match=message):
            open_table(f"csv:{tmp_path}", str(tmp_path), skips_bad=False)


def test_objects_of_several_files_may_lack_keys(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"a": 1}))
    (tmp_path / "b.jsonl").write_text(json.dumps({"b": 2}))
    table = open_table(f"jsonl:{tmp_path}", str(tmp_path), skips_bad=False)
    assert cells_of(table) == {"a": [1, None], "b": [None, 2]}


def test_a_file_that_vanishes_is_named(tmp_path: Path) -> None:
    table = table_of(tmp_path, "a.csv", "a,b\nx,y\n")
    (tmp_path / "a.csv").unlink()
    with pytest.raises(DataError, match=r"a\.csv cannot be read: No such file"):
        list(table.chunks())


def test_a_missing_pyarrow_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.parquet").touch()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"Reading a\.parquet needs the package 'pyarrow'"):
        open_table(f"parquet:{tmp_path}/a.parquet", f"{tmp_path}/a.parquet", skips_bad=False)
