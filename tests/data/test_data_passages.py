from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kleiber.data import text_spool
from kleiber.data.passages import Passage, cut_document, joined, split_documents
from kleiber.data.text_spool import TextSpool


@given(st.text(alphabet="ab \n\t中", max_size=300), st.integers(1, 40))
def test_parts_join_to_the_text_and_are_short(text: str, num_chars: int) -> None:
    parts = cut_document(Passage("a.txt", text), num_chars)
    assert "".join(part.text for part in parts) == text
    assert all(0 < len(part.text) <= num_chars for part in parts)
    assert [part.part for part in parts] == list(range(len(parts)))
    assert list(joined(parts)) == ([text] if text else [])


def reference_cut(text: str, num_chars: int) -> list[str]:
    """Cut a text that memory holds."""
    start, parts = 0, []
    paragraph_ends = [match.end() for match in re.finditer(r"\n(?:[ \t]*\n)+", text)]
    while start < len(text):
        end = start + num_chars
        fitting = [place for place in paragraph_ends if start < place <= end]
        stop = text.rfind("\n", start, end) + 1 or text.rfind(" ", start, end) + 1 or end
        stop = len(text) if end >= len(text) else max(fitting, default=stop)
        parts.append(text[start:stop])
        start = stop
    return parts


@given(
    text=st.lists(st.sampled_from(["a", "b c", "中", "\n", "\n\n", " \n", "\n\t"]), max_size=30).map("".join),
    num_chars=st.integers(1, 12),
    num_bytes=st.integers(1, 12),
)
# Parts and blocks that end amid blank lines.
@example(text="\n\n\n\nb\n\n", num_chars=3, num_bytes=2)
@example(text="b\n\n\n   \nb\n\n", num_chars=3, num_bytes=8)
@example(text="\n\n\nb\n\n  \n", num_chars=7, num_bytes=4)
def test_a_text_on_disk_is_cut_as_one_in_memory(
    spool: TextSpool, text: str, num_chars: int, num_bytes: int
) -> None:
    passages = [Passage("a", text), Passage("a", spool.put([text]))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_spool, "_BLOCK_BYTES", num_bytes)
        for passage in passages:
            assert [part.text for part in cut_document(passage, num_chars)] == reference_cut(text, num_chars)


def test_a_part_ends_with_the_last_paragraph_that_fits() -> None:
    text = "one one\n\ntwo two\n\nthree three three\nfour\n"
    assert [part.text for part in cut_document(Passage("a", text), 20)] == [
        "one one\n\ntwo two\n\n",
        "three three three\n",
        "four\n",
    ]


def test_a_text_without_spaces_is_cut_anywhere() -> None:
    assert [part.text for part in cut_document(Passage("a", "abcdefg"), 3)] == ["abc", "def", "g"]


def test_real_modules_are_cut_between_paragraphs(modules_folder: Path) -> None:
    text = (modules_folder / "textwrap.py").read_text()
    parts = cut_document(Passage("textwrap.py", text), 4096)
    assert "".join(part.text for part in parts) == text
    assert len(text) / 4096 < len(parts) < len(text) / 2048
    assert all(part.text.endswith("\n\n") for part in parts[:-1])


def test_only_a_line_of_its_own_separates_documents(spool: TextSpool) -> None:
    text = (
        "first\nsays <|endoftext|> inline\n  <|endoftext|>  \n\nsecond\n<|endoftext|>\n\n<|endoftext|>\nthird"
    )
    assert [(p.document, p.text) for p in split_documents("a.txt", io.StringIO(text), spool)] == [
        ("a.txt#0", "first\nsays <|endoftext|> inline"),
        ("a.txt#1", "second"),
        ("a.txt#3", "third"),
    ]


@given(
    lines=st.lists(
        st.sampled_from(
            ["a", "", " ", "b <|endoftext|>", "<|endoftext|>", " \t<|endoftext|> ", "<|endoftext|> b"]
        )
    ),
    end=st.sampled_from(["", "\n"]),
)
def test_a_file_is_split_as_its_whole_text_would_be(spool: TextSpool, lines: list[str], end: str) -> None:
    text = "\n".join(lines) + end
    parts = re.split(r"^[ \t]*<\|endoftext\|>[ \t]*$", text, flags=re.MULTILINE)
    expected = [(f"a.txt#{i}", part.strip("\n")) for i, part in enumerate(parts) if part.strip()]
    if len(parts) == 1:
        expected = [("a.txt", text)]
    # io.StringIO yields lines as files do.
    assert [(p.document, p.text) for p in split_documents("a.txt", io.StringIO(text), spool)] == expected


def test_a_file_without_separators_is_one_document(spool: TextSpool) -> None:
    (document,) = split_documents("a.txt", io.StringIO("one\n\ntwo\n"), spool)
    assert (document.name, document.text, document.num_chars) == ("a.txt:0", "one\n\ntwo\n", 9)
