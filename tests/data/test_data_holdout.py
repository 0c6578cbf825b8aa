from __future__ import annotations

import re

import pytest

from kleiber.data.holdout import Split, split
from kleiber.data.passages import Passage
from kleiber.data.windows import windows_of
from kleiber.errors import DataError


def document(name: str, num_lines: int, start: str = "") -> Passage:
    return Passage(name, start + "".join(f"{name} says {line}\n" for line in range(num_lines)))


def names(passages: list[Passage]) -> set[str]:
    return {passage.document for passage in passages}


def num_shared_windows(parts: Split) -> int:
    train, val = ({h for p in side for h in windows_of(p.text).tolist()} for side in (parts.train, parts.val))
    return len(train & val)


def split_of(documents: list[Passage], val_frac: float = 0.2) -> Split:
    return split(documents, val_frac, source="text:x")


def test_every_passage_is_on_one_side_and_the_share_is_met() -> None:
    documents = [document(f"d{number:03d}", 20) for number in range(100)]
    parts = split_of(documents)
    assert sorted(parts.train + parts.val, key=lambda passage: passage.name) == documents
    assert len(parts.val) == 20
    assert parts.num_lines_cut == 0


def test_copies_stay_together() -> None:
    # Pairs of near-copies that differ in their last lines: a pair is never split.
    documents = [
        Passage(f"{copy}{number}", document(f"d{number}", 30).text + f"written by {copy}\n")
        for number in range(40)
        for copy in ("a", "b")
    ]
    parts = split_of(documents)
    assert {name[1:] for name in names(parts.val)}.isdisjoint({name[1:] for name in names(parts.train)})
    assert len(parts.val) == 16
    assert num_shared_windows(parts) == 0


def test_the_choice_depends_on_names_not_on_what_else_is_there() -> None:
    documents = [document(f"d{number:03d}", 20) for number in range(100)]
    first = names(split_of(documents).val)
    fewer = names(split_of(documents[10:]).val)
    kept = first & {passage.document for passage in documents[10:]}
    assert len(kept - fewer) <= 2


def test_a_licence_header_is_cut_from_validation_only() -> None:
    header = "".join(f"# licence line {line}\n" for line in range(7))
    documents = [document(f"d{number}", 40, header) for number in range(30)]
    parts = split_of(documents, 0.1)
    assert all("licence" not in passage.text for passage in parts.val)
    assert all("licence" in passage.text for passage in parts.train)
    assert parts.num_lines_cut == 7 * len(parts.val) > 0
    assert num_shared_windows(parts) == 0


def test_a_single_long_document_is_cut_into_passages() -> None:
    text = document("novel", 5000).text
    parts = split_of([Passage("novel", text)], 0.05)
    num_val_chars = sum(len(passage.text) for passage in parts.val)
    assert 0.04 * len(text) < num_val_chars <= 0.05 * len(text)
    assert len(parts.val) >= 2
    whole = sorted(parts.train + parts.val, key=lambda passage: passage.part)
    assert "".join(passage.text for passage in whole) == text


def test_short_documents_stay_whole() -> None:
    parts = split_of([document(f"d{number}", 20) for number in range(100)])
    assert all(passage.part == 0 for passage in parts.train + parts.val)


@pytest.mark.parametrize("num_copies", [1, 2])
def test_a_text_of_one_piece_is_refused(num_copies: int) -> None:
    message = "'text:x' cannot be split into train and validation: all of its text is one piece"
    with pytest.raises(DataError, match=re.escape(message)):
        split_of([Passage(f"d{number}", "a short note\n") for number in range(num_copies)])


def test_a_text_that_repeats_itself_is_refused() -> None:
    documents = [Passage(f"d{number}", "the same\nfour\nlines\nagain\n") for number in range(40)]
    with pytest.raises(DataError, match="'text:x' repeats itself"):
        split(documents, 0.1, source="text:x")
