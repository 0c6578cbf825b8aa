"""What is written down of samples: which they are, how many, of which classes."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from kleiber.data.copies import Copies
from kleiber.data.normalization import chunks
from kleiber.data.sample_checks import check_finite
from kleiber.data.source import Part, Source
from kleiber.runs.record import DataMeta

__all__ = ["hash_parts", "sample_meta"]

_BALANCED_RATIO = 10
"""Above it the imbalance of classes is worth a sentence."""


def sample_meta(
    source: Source,
    parts: Mapping[str, Part],
    *,
    name: str,
    train_values: npt.NDArray[np.float32] | None,
    copies: Copies | None,
) -> DataMeta:
    """Return what is written down.

    Args:
        source: As it was opened.
        parts: The splits that are learnt from and measured on.
        name: What the user typed.
        train_values: Of the training split before samples were selected [N, K]: losses of a regression are in deviations of
            these, the same unit however many samples are learnt from.
        copies: What was removed; None where nobody looked.

    Raises:
        DataError: A sample has a number that is not finite.
    """
    train = parts["train"]
    num_classes = len(source.classes) or source.shape.num_outputs or 0
    counts = () if train.labels is None else np.bincount(train.labels, minlength=num_classes).tolist()
    mean = () if train_values is None else train_values.mean(0, dtype=np.float64).tolist()
    # Values that never change are predicted by their mean; a deviation of 0 could not be divided by.
    std = (
        ()
        if train_values is None
        else [each or 1.0 for each in train_values.std(0, dtype=np.float64).tolist()]
    )
    return DataMeta(
        source=name,
        unit="sample",
        shape=source.shape,
        corpus_hash=_corpus_hash(source, name),
        python_version=platform.python_version(),
        tokenizer_hash=source.tokenizer_hash,
        eval_hash=hash_parts([parts["val"]], name=name, salt=f"{mean} {std} {source.tokenizer_hash}"),
        num_documents=sum(map(len, source.parts.values())),
        num_train_tokens=len(train),
        num_val_tokens=len(parts["val"]),
        num_test_tokens=len(parts["test"]) if "test" in parts else 0,
        classes=source.classes,
        class_counts=tuple(counts),
        target_mean=tuple(mean),
        target_std=tuple(std),
        num_duplicates=None if copies is None else copies.num_removed,
        num_bad_samples=source.num_bad_samples,
        notes=(*source.notes, *_notes(counts, source.classes, copies)),
    )


def _notes(counts: Sequence[int], classes: tuple[str, ...], copies: Copies | None) -> Iterator[str]:
    if copies is not None and copies.num_removed:
        yield copies.note
    if counts and max(counts) > _BALANCED_RATIO * min(counts):
        rare, common = int(np.argmin(counts)), int(np.argmax(counts))
        names = classes or tuple(map(str, range(len(counts))))
        yield (
            f"Classes are out of balance: {counts[rare]:,} training samples of '{names[rare]}', {counts[common]:,} of "
            f"'{names[common]}'."
        )


def _corpus_hash(source: Source, name: str) -> str:
    """Return a hash of everything; of what goes in the source may have said it already."""
    parts = list(source.parts.values())
    if source.content_hash is None:
        return hash_parts(parts, name=name)
    digest = hashlib.sha256(source.content_hash.encode())
    for part in parts:
        _update_with_answers(digest, part)
    return digest.hexdigest()[:16]


def hash_parts(parts: Sequence[Part], *, name: str, salt: str = "") -> str:
    """Return a hash of all samples in order, with what is asked of them.

    Args:
        parts: Splits.
        name: What the user typed, for errors.
        salt: Goes in too.

    Raises:
        DataError: A sample has a number that is not finite.
    """
    digest = hashlib.sha256(salt.encode())
    for part in parts:
        for indices, arrays in chunks(part.samples):
            for role in sorted(arrays):
                check_finite(arrays[role], indices, f"data.source '{name}': {role}")
                digest.update(np.ascontiguousarray(arrays[role]).tobytes())
        _update_with_answers(digest, part)
    return digest.hexdigest()[:16]


def _update_with_answers(digest: hashlib._Hash, part: Part) -> None:
    for column in (part.labels, part.values):
        if column is not None:
            digest.update(np.ascontiguousarray(column).tobytes())
