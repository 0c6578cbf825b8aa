"""Texts of a table with what is asked of them, and pairs of texts, as sources of samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Literal

import numpy as np

from kleiber.data.corpus import Progress
from kleiber.data.given_tokenizer import given_tokenizer
from kleiber.data.prepared import MappedSamples, Prepared, open_prepared
from kleiber.data.source import Source
from kleiber.data.table.answers import Answers
from kleiber.data.table.parts import load_answers, parts_of
from kleiber.data.table.table import Table
from kleiber.data.text_tokenizer import TextTokenizer, saved_tokenizer
from kleiber.data.texts.padded import Frame, PaddedTexts
from kleiber.data.texts.prepare import prepare_texts
from kleiber.errors import DataError
from kleiber.runs import DataShape
from kleiber.runs.data_shape import PAD_ID
from kleiber.runs.recipe import DataRecipe

__all__ = ["text_source"]

_VERSION = 2
"""Of the preparation: raise it when the same files would give other tokens."""


def text_source(
    table: Table,
    columns: Mapping[str, str],
    read_answers: Callable[[], Answers],
    recipe: DataRecipe,
    *,
    inputs: Literal["tokens", "pairs"],
    task: str,
    cache: Path,
    on_progress: Progress,
) -> Source:
    """Return the texts of a table as tokens, prepared on the first call and found in the cache after.

    Args:
        table: The rows.
        columns: Column of each role: `tokens`, or `source` and `target`.
        read_answers: Reads what is asked of each row.
        recipe: Vocabulary, context, what is held out, what is filtered.
        inputs: What the roles are.
        task: Its name.
        cache: Folder of prepared data.
        on_progress: Is told each stage of a preparation as it begins.

    Raises:
        DataError: A column is missing or empty, a row has no text, or the vocabulary is too large for the text.
        StorageError: The cache cannot be written.
    """
    given, recipe = given_tokenizer(recipe)
    if given is not None:
        _refuse_token_changes(recipe)
    key = {
        "version": _VERSION,
        "table": table.stats,
        "source": recipe.source,
        "columns": dict(columns),
        "task": task,
        "recipe": recipe.model_dump(
            include={
                "target",
                "split_field",
                "vocab_size",
                "val_frac",
                "test_frac",
                "skips_bad_samples",
                "has_quality_filter",
            }
        ),
        "tokenizer": given and given.key(),
        "tokenizers": metadata.version("tokenizers"),
    }
    prepared = open_prepared(
        cache,
        "texts",
        key,
        lambda folder: prepare_texts(
            table, columns, read_answers(), recipe, tokenizer=given, folder=folder, on_progress=on_progress
        ),
    )
    return _source(prepared, tuple(columns), recipe, inputs)


def _source(
    prepared: Prepared, roles: tuple[str, ...], recipe: DataRecipe, inputs: Literal["tokens", "pairs"]
) -> Source:
    answers = load_answers(prepared)
    tokenizer = saved_tokenizer(prepared.folder)
    frame = _frame(tokenizer, recipe)
    texts = _padded(prepared, roles, recipe.context, frame)
    lengths = np.sum(list(texts.num_tokens.values()), axis=0)
    parts = parts_of(answers, texts, lengths=lengths, groups=prepared.read("groups"))
    num_outputs = len(answers.classes) or (None if answers.values is None else 1)
    return Source(
        shape=DataShape(
            inputs=inputs,
            vocab_size=tokenizer.vocab_size,
            context=recipe.context,
            num_outputs=num_outputs,
            pad_id=frame.pad_id,
            end_id=frame.end_id if inputs == "pairs" else PAD_ID,
        ),
        train=parts["train"],
        val=parts.get("val"),
        test=parts.get("test"),
        classes=answers.classes,
        tokenizer_path=prepared.folder / "tokenizer.json",
        tokenizer_hash=tokenizer.hash,
        content_hash=prepared.meta.content_hash,
        num_bad_samples=answers.num_bad,
        notes=(*prepared.meta.notes, *map(partial(_cut_note, texts), roles)),
    )


def _refuse_token_changes(recipe: DataRecipe) -> None:
    for change in recipe.augment:
        if change.name in ("token_mask", "token_delete"):
            raise DataError(
                f"data.augment {change.name} goes by the bytes and the padding of a tokenizer that is trained here, and would "
                f"change the special tokens of data.tokenizer '{recipe.tokenizer}'.",
                hint="--set data.augment=[]",
            )


def _frame(tokenizer: TextTokenizer, recipe: DataRecipe) -> Frame:
    """Return what stands around texts, of which at least one token must have room."""
    before, after = tokenizer.prefix, tokenizer.suffix
    if recipe.context <= len(before) + len(after) + 1:
        raise DataError(
            f"data.context {recipe.context} leaves no room for a text: the tokenizer puts {len(before) + len(after)} tokens "
            "around each.",
            hint="--set data.context=128",
        )
    return Frame(before, after, tokenizer.pad_id, tokenizer.end_id)


def _padded(prepared: Prepared, roles: tuple[str, ...], context: int, frame: Frame) -> PaddedTexts:
    names = [name for role in roles for name in (role, f"{role}_ends")]
    stored: MappedSamples = prepared.samples(**dict(zip(names, names, strict=True)))
    return PaddedTexts(stored, context, frame)


def _cut_note(texts: PaddedTexts, role: str) -> str:
    """Return how many texts the context cuts; what stands before them, and after all but a target, takes its room."""
    before, after = texts.frame.around(role)
    room = texts.context - len(before) - (0 if role == "target" else len(after))
    share = float(np.mean(texts.num_tokens[role] > room))
    what = {"tokens": "texts", "source": "source texts", "target": "target texts"}[role]
    return f"{share:.1%} of the {what} are cut to data.context {texts.context}"
