"""Columns of text to tokens on disk: read, grouped, filtered, the tokenizer trained, encoded; a chunk of rows at a time.

Memory holds the answers, a sketch of each text and a chunk of rows; never all texts.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kleiber.data.corpus import Progress
from kleiber.data.prepared import NpyWriter, PreparedMeta
from kleiber.data.sample_checks import num_in
from kleiber.data.table.answers import SPLIT_NUMBERS, Answers
from kleiber.data.table.parts import save_answers, train_rows
from kleiber.data.table.table import Rows, Table
from kleiber.data.text_tokenizer import TextTokenizer
from kleiber.data.texts.groups import TextGroups
from kleiber.data.texts.quality import fault_of
from kleiber.data.tokenizer import train_tokenizer
from kleiber.errors import DataError
from kleiber.runs.recipe import DataRecipe

__all__ = ["prepare_texts"]


@dataclass
class _Read:
    """What reading all texts once told."""

    groups: TextGroups = field(default_factory=TextGroups)
    is_bad: list[bool] = field(default_factory=list)
    faults: list[str | None] = field(default_factory=list)
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)


def prepare_texts(
    table: Table,
    columns: Mapping[str, str],
    answers: Answers,
    recipe: DataRecipe,
    *,
    tokenizer: TextTokenizer | None,
    folder: Path,
    on_progress: Progress,
) -> PreparedMeta:
    """Write the texts of a table as tokens, with what is asked of them.

    Rows without a text are refused, or left out where the recipe says so; with `data.has_quality_filter`, training texts with a
    fault are left out. Near-duplicates are told by the first role, and are held out together.

    Args:
        table: The rows.
        columns: Column of each role.
        answers: Of all rows.
        recipe: Vocabulary, what is held out, what is filtered.
        tokenizer: None trains one.
        folder: Where the arrays go.
        on_progress: Is told each stage as it begins.

    Raises:
        DataError: A row has no text, nothing is left to learn from, or the vocabulary is too large for the text.
    """
    on_progress("reading the texts")
    read = _read(table, columns, answers, recipe)
    answers, notes = _filtered(answers.without(np.array(read.is_bad)), read.faults, table.source)
    on_progress("grouping near-duplicates")
    groups = read.groups.numbers()
    is_learnt = np.zeros(len(groups), bool)
    is_learnt[train_rows(answers, recipe, groups=groups)] = True
    if tokenizer is None:
        on_progress("training the tokenizer")
        texts = _train_texts(table, columns, is_learnt)
        tokenizer = TextTokenizer(train_tokenizer(texts, recipe.vocab_size, source=table.source))
    tokenizer.write(folder)
    on_progress("encoding")
    _encode(table, columns, tokenizer, folder)
    save_answers(answers, folder)
    np.save(folder / "groups.npy", groups)
    for column in (answers.splits, answers.labels, answers.values):
        read.digest.update(b"" if column is None else column.tobytes())
    return PreparedMeta(
        content_hash=read.digest.hexdigest()[:16],
        classes=answers.classes,
        num_bad_samples=answers.num_bad,
        notes=(*notes, *tokenizer.note()),
    )


def _read(table: Table, columns: Mapping[str, str], answers: Answers, recipe: DataRecipe) -> _Read:
    read = _Read()
    for rows in table.chunks():
        for index in range(len(rows)):
            is_left_out = answers.splits[len(read.is_bad)] not in SPLIT_NUMBERS.values()
            reasons = {role: _fault_of_cell(rows.columns[column][index]) for role, column in columns.items()}
            bad = next((role for role, reason in reasons.items() if reason is not None), None)
            if bad is not None and not recipe.skips_bad_samples and not is_left_out:
                raise DataError(
                    f"column {columns[bad]!r} of '{table.source}' must hold a text, and {reasons[bad]} at "
                    f"{rows.place(index)}.",
                    hint="--set data.skips_bad_samples=true   to leave such rows out, or data.field=COLUMN",
                )
            texts = [_text(rows.columns[column][index]) for column in columns.values()]
            read.is_bad.append(bad is not None)
            # Rows that are left out must not hold others together.
            read.groups.add(f"left out {len(read.is_bad)}" if bad is not None or is_left_out else texts[0])
            faults = map(fault_of, texts) if recipe.has_quality_filter and bad is None else ()
            read.faults.append(next((fault for fault in faults if fault is not None), None))
            for text in texts:
                content = text.encode()
                read.digest.update(len(content).to_bytes(8, "little"))
                read.digest.update(content)
    if all(read.is_bad):
        empty = " and ".join(repr(column) for column in columns.values())
        raise DataError(f"'{table.source}' has no row with a text in {empty}.", got=list(table.columns))
    return read


def _filtered(answers: Answers, faults: Sequence[str | None], source: str) -> tuple[Answers, tuple[str, ...]]:
    """Return the answers without the training texts that have a fault, and what to say of that."""
    is_train = answers.splits == SPLIT_NUMBERS["train"]
    has_fault = np.array([fault is not None for fault in faults]) & is_train
    counts = Counter(fault for fault, is_own in zip(faults, has_fault, strict=True) if is_own)
    if not counts:
        return answers, ()
    if has_fault[is_train].all():
        raise DataError(
            f"data.has_quality_filter would leave no training text of '{source}'.",
            got=dict(counts),
            hint="--set data.has_quality_filter=false",
        )
    reasons = ", ".join(f"{count:,} {fault}" for fault, count in counts.most_common())
    num_train = num_in(int(np.count_nonzero(is_train)), "training text")
    kept = replace(answers.without(has_fault), num_bad=answers.num_bad)  # they are whole, only not wanted
    return kept, (f"the quality filter left out {counts.total():,} of {num_train}: {reasons}",)


def _fault_of_cell(cell: object) -> str | None:
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return "it is empty"
    if not isinstance(cell, str):
        return f"it holds a {type(cell).__name__}"
    try:
        cell.encode()
    except UnicodeEncodeError:
        return "it holds half of a surrogate pair, which is no character,"
    return None


def _text(cell: object) -> str:
    """Return the text of a cell; "" of one that has none."""
    return "" if not isinstance(cell, str) or _fault_of_cell(cell) else cell


def _texts(rows: Rows, column: str) -> list[str]:
    return [_text(cell) for cell in rows.columns[column]]


def _train_texts(table: Table, columns: Mapping[str, str], is_learnt: npt.NDArray[np.bool_]) -> Iterator[str]:
    first = 0
    for rows in table.chunks():
        chosen = np.flatnonzero(is_learnt[first : first + len(rows)]).tolist()
        first += len(rows)
        for column in columns.values():
            texts = _texts(rows, column)
            yield from (texts[index] for index in chosen)


def _encode(table: Table, columns: Mapping[str, str], tokenizer: TextTokenizer, folder: Path) -> None:
    with ExitStack() as stack:
        writers = {
            name: stack.enter_context(closing(NpyWriter(folder / f"{name}.npy")))
            for role in columns
            for name in (role, f"{role}_ends")
        }
        num_before = dict.fromkeys(columns, 0)
        for rows in table.chunks():
            for role, column in columns.items():
                encoded = tokenizer.encode(_texts(rows, column), separator=tokenizer.pad_id)
                writers[role].append(encoded.tokens)
                writers[f"{role}_ends"].append(encoded.ends + num_before[role])
                num_before[role] += len(encoded.tokens)
