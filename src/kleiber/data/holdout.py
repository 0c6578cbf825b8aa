"""What is held out: whole groups of near-duplicates, chosen by hash, so that validation is no copy of train."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kleiber.data.near_duplicates import group_near_duplicates
from kleiber.data.passages import Passage, cut_document
from kleiber.data.windows import windows_of, without_windows
from kleiber.errors import DataError

__all__ = ["Split", "split"]

MIN_PASSAGE_CHARS, MAX_PASSAGE_CHARS = 256, 4096
MIN_HELD_OUT_PASSAGES = 8
"""Long documents are cut so finely that what is held out comes from about this many places, or more."""


@dataclass(frozen=True)
class Split:
    """A corpus in two: what is trained on, and what is held out."""

    train: list[Passage]
    val: list[Passage]
    num_lines_cut: int
    """Boiler-plate lines that validation lost because train holds them too."""


def split(documents: Sequence[Passage], val_frac: float, *, source: str) -> Split:
    """Return the documents in train and validation, in their order.

    A document longer than half of what is to be held out would hardly ever be, so it is cut into passages.
    Passages that share five-line windows form groups; groups are taken in the order of a hash of their first
    name, as long as they fit. Windows that validation still shares with train are boiler-plate: their lines
    are cut from validation.

    Args:
        documents: All of them.
        val_frac: Part of the characters to hold out, at most (the smallest group is taken when none fits).
        source: What the user typed, for errors.

    Raises:
        DataError: Everything is one group, or validation would be nothing but copies of train.
    """
    budget = val_frac * sum(document.num_chars for document in documents)
    passages = [passage for document in documents for passage in _cut(document, budget)]
    hashes = [windows_of(passage.text) for passage in passages]
    groups = group_near_duplicates(hashes)
    if len(groups) < 2:
        raise DataError(
            f"data.source '{source}' cannot be split into train and validation: all of its text is one piece "
            "or repeats itself.",
            hint="--set data.source=text:PATH   with a longer text or more files, or data.source=stdlib",
        )
    held_out = _choose(passages, groups, budget)
    train = [passage for index, passage in enumerate(passages) if index not in held_out]
    train_hashes = np.concatenate([h for i, h in enumerate(hashes) if i not in held_out])
    train_hashes.sort()
    val, num_lines_cut = _trim([passages[index] for index in sorted(held_out)], train_hashes)
    if not val:
        raise DataError(
            f"data.source '{source}' repeats itself: whatever is held out also stands in the rest.",
            hint="--set data.source=text:PATH   with a text that says more, or data.source=stdlib",
        )
    return Split(train, val, num_lines_cut)


def _cut(document: Passage, budget: float) -> list[Passage]:
    if document.num_chars <= budget / 2:
        return [document]
    num_chars = min(MAX_PASSAGE_CHARS, int(budget / MIN_HELD_OUT_PASSAGES))
    return cut_document(document, max(MIN_PASSAGE_CHARS, num_chars))


def _choose(passages: Sequence[Passage], groups: Sequence[list[int]], budget: float) -> set[int]:
    """Return the held-out passages: groups in the order of their hashes, as long as they fit in `budget`."""
    sizes = [sum(passages[index].num_chars for index in group) for group in groups]
    order = sorted(range(len(groups)), key=lambda number: _digest(passages[groups[number][0]].name))
    held_out: set[int] = set()
    for number in order:
        if sizes[number] <= budget:
            budget -= sizes[number]
            held_out.update(groups[number])
    return held_out or set(groups[min(order, key=sizes.__getitem__)])


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()


def _trim(passages: Sequence[Passage], train_hashes: npt.NDArray[np.uint64]) -> tuple[list[Passage], int]:
    kept, num_lines_cut = [], 0
    for passage in passages:
        text, num_lines = without_windows(passage.text, train_hashes)
        num_lines_cut += num_lines
        if text.strip():
            kept.append(Passage(passage.document, text, passage.part))
    return kept, num_lines_cut
