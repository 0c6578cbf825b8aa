from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kleiber.data import text_spool
from kleiber.data.text_spool import TextSpool
from kleiber.errors import StorageError

TEXTS = st.lists(st.text(alphabet="a\n\0é中😀\ud800\udfff"))
"""Lone surrogates too: a row of a JSON file may hold them."""


@given(TEXTS)
def test_texts_come_back_in_any_order(texts: list[str]) -> None:
    with TextSpool(Path(tempfile.gettempdir())) as spool:
        spans = [spool.put([text]) for text in texts]
        assert [span.read() for span in reversed(spans)] == texts[::-1]
        assert [span.num_chars for span in spans] == [len(text) for text in texts]
        again = spool.put(["behind ", "the others"])  # what was read does not say where to write
        assert [span.read() for span in (*spans, again)] == [*texts, "behind the others"]


@given(TEXTS, TEXTS)
def test_parts_of_a_text_come_back(before: list[str], parts: list[str]) -> None:
    with TextSpool(Path(tempfile.gettempdir())) as spool:
        spool.put(before)
        span = spool.put(parts)
        spans = span.cut(iter(parts))
        assert span.read() == "".join(parts)
        assert [span.read() for span in spans] == parts
        assert [span.num_chars for span in spans] == [len(part) for part in parts]


@given(texts=TEXTS, num_bytes=st.integers(1, 9))
def test_a_text_comes_in_blocks_and_without_line_ends_around_it(
    spool: TextSpool, texts: list[str], num_bytes: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_spool, "_BLOCK_BYTES", num_bytes)  # also amid a character
        for text in texts:
            span = spool.put(text)  # a character at a time
            assert "".join(span.blocks()) == text
            assert len(list(span.blocks())) == -(-span.num_bytes // num_bytes)
            bare = span.without_outer_line_ends()
            assert (bare.read(), bare.num_chars) == (text.strip("\n"), len(text.strip("\n")))


def test_the_file_has_no_name_and_its_folder_is_made(tmp_path: Path) -> None:
    with TextSpool(tmp_path / "cache") as spool:
        assert spool.put(["text"]).read() == "text"
        assert list((tmp_path / "cache").iterdir()) == []


def test_the_file_is_closed_however_that_ends(tmp_path: Path) -> None:
    spool = TextSpool(tmp_path)
    span = spool.put(["text"])
    with pytest.raises(KeyError), spool:
        raise KeyError
    with pytest.raises(ValueError, match="closed file"):
        span.read()


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot write .*file/cache: Not a directory"):
        TextSpool(tmp_path / "file" / "cache")
