from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kleiber.errors import DataError, MissingExtraError
from kleiber.scaling import Columns
from kleiber.scaling.table import read_table

NEEDED = ("params", "tokens", "loss")


@pytest.fixture
def table(tmp_path):
    def write(content: str | bytes, name: str = "rows.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def lines(path: Path, columns: Columns | None = None):
    return list(read_table(path, columns or Columns(), NEEDED))


@pytest.mark.parametrize(
    "header",
    [
        "params,tokens,loss",
        "num_params,num_tokens,val_loss",
        "N,D,loss",
        "Model Size,Training Tokens,Loss",
        " params , tokens , loss ",
    ],
)
def test_common_names_are_known(table, header):
    (line,) = lines(table(f"{header}\n1e6,2B,3.5\n"))
    assert [line.number(name) for name in NEEDED] == [1e6, 2e9, 3.5]


def test_names_can_be_mapped(table):
    (line,) = lines(
        table("size,seen,final nats,x\n5,6,7,8\n"), Columns(params="size", tokens="seen", loss="final nats")
    )
    assert [line.number(name) for name in NEEDED] == [5, 6, 7]


def test_a_byte_order_mark_tabs_and_blank_lines_are_read(table):
    (line,) = lines(table("\ufeffparams\ttokens\tloss\n\n1\t2\t3\n\n", "rows.tsv"))
    assert line.number("params") == 1
    assert line.where.endswith("rows.tsv line 3")


def test_an_optional_cell_may_be_empty(table):
    (line,) = lines(table("params,tokens,loss,unique_tokens\n1,2,3,\n"))
    assert line.number_or_none("unique_tokens") is None
    assert line.number_or_none("body") is None


def test_a_missing_column_lists_those_there_are(table):
    with pytest.raises(DataError, match=r"no column for loss; it has params, tokens, accuracy") as caught:
        lines(table("params,tokens,accuracy\n1,2,3\n"))
    assert "--columns loss=accuracy" in str(caught.value)


def test_a_mapped_column_that_is_missing_names_the_nearest(table):
    with pytest.raises(DataError, match=r"no column 'losss', which was named for loss\. Did you mean 'loss'"):
        lines(table("params,tokens,loss\n1,2,3\n"), Columns(loss="losss"))


def test_two_columns_that_could_be_meant_are_not_guessed_between(table):
    with pytest.raises(DataError, match="several columns that could hold loss: loss, val_loss"):
        lines(table("params,tokens,loss,val_loss\n1,2,3,4\n"))


@pytest.mark.parametrize("bad", ["-2", "0", "nan", "inf", "abc", "", "1,000"])
def test_a_bad_number_names_file_and_line(table, bad):
    path = table(f'params,tokens,loss\n1,2,3\n1,2,"{bad}"\n')
    with pytest.raises(DataError, match=rf"rows\.csv line 3: loss must be a positive number\. Got '{bad}'"):
        lines(path)[1].number("loss")


def test_a_line_of_another_length_is_refused(table):
    with pytest.raises(DataError, match=r"line 3 must have 3 cells, as the first line has\. Got 2"):
        lines(table("params,tokens,loss\n1,2,3\n1,2\n"))


@pytest.mark.parametrize("content", ["", "\n1,2,3\n", ",,\n"])
def test_an_empty_table_is_refused(table, content):
    with pytest.raises(DataError, match="is empty: its first line must name the columns"):
        lines(table(content))


def test_what_is_not_text_is_refused(table):
    with pytest.raises(DataError, match="is not a table in UTF-8 text"):
        lines(table(b"params,tokens,loss\n\xff\xfe\x00,1,2\n"))
    with pytest.raises(DataError, match="is not a table in UTF-8 text"):
        lines(table('params,tokens,loss\n1,2,"3\n'))


def test_a_missing_table_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"absent\.csv cannot be read: No such file"):
        lines(tmp_path / "absent.csv")


def test_json_lines_are_read(table):
    path = table(
        '{"params": 1000000, "tokens": 2e9, "loss": 3.5, "extra": "lr=1e-3"}\n\n{"params": "2M", "tokens": 2e9, "loss": 3.25, "seed": null}\n',
        "rows.jsonl",
    )
    first, second = lines(path)
    assert [first.number(name) for name in NEEDED] == [1e6, 2e9, 3.5]
    assert first.every["lr"] == "1e-3"
    assert second.number("params") == 2e6
    assert second.text("seed") is None
    assert second.where.endswith("rows.jsonl line 3")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("{", "line 1 is not JSON"),
        ("[1]", r"line 1 must hold one object of columns and values\. Got 'list'"),
        ('{"params": [1]}', r"line 1: params must be a number or a text\. Got \[1\]"),
        ("", "is empty: its first line must name the columns"),
    ],
)
def test_json_lines_that_are_none_are_refused(table, content, text):
    with pytest.raises(DataError, match=text):
        lines(table(content, "rows.jsonl"))


def test_parquet_is_read(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet  # noqa: PLC0415 - skipped without

    path = tmp_path / "rows.parquet"
    parquet.write_table(
        pyarrow.table({"params": [1_000_000, 2_000_000], "tokens": [2e9, 3e9], "loss": [3.5, None]}), path
    )
    first, second = lines(path)
    assert [first.number(name) for name in NEEDED] == [1e6, 2e9, 3.5]
    with pytest.raises(DataError, match=r"rows\.parquet row 2: loss must be a positive number\. Got ''"):
        second.number("loss")


def test_a_file_that_only_ends_as_parquet_is_refused(table, tmp_path):
    pytest.importorskip("pyarrow")
    with pytest.raises(DataError, match="is not a parquet file that can be read"):
        lines(table(b"PAR1", "rows.parquet"))
    with pytest.raises(DataError, match=r"none\.parquet cannot be read: No such file"):
        lines(tmp_path / "none.parquet")


def test_parquet_without_pyarrow_says_what_to_install(table, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match="A table in parquet needs the package 'pyarrow'"):
        lines(table(b"PAR1", "rows.parquet"))


def test_a_column_wins_over_a_key_of_extra(table):
    (line,) = lines(table("params,tokens,loss,extra\n1,2,3,loss=9;lr = 0.1 ;odd\n"))
    assert line.number("loss") == 3
    assert line.every["lr"] == "0.1"
