"""What samples must be before anything is fitted to them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kleiber.data.source import Source
from kleiber.errors import DataError
from kleiber.runs import TaskRecipe
from kleiber.runs.data_shape import InputKind
from kleiber.runs.recipe import DataRecipe

__all__ = [
    "check_finite",
    "check_source",
    "check_suits",
    "left_out",
    "num_in",
    "refuse_sizes_without_effect",
    "refuse_without_effect",
]


_MAX_NAMED = 5
"""Samples that a note names."""

_OF_SOME_SOURCES = (
    "field",
    "target",
    "columns",
    "split_field",
    "image_size",
    "horizon",
    "has_quality_filter",
    "tokenizer",
)
"""Keys of `data` that only some kinds of sources read."""


def refuse_without_effect(
    recipe: DataRecipe, *, used: Collection[str] = (), also: Collection[str] = ()
) -> None:
    """Refuse what a recipe says about columns, images or texts to a source that has none.

    Args:
        recipe: What the user wrote.
        used: Which of those keys the source reads.
        also: Keys that all other sources read, and this one does not.

    Raises:
        DataError: Another of them is not at its default.
    """
    for key in (*_OF_SOME_SOURCES, *also):
        default = type(recipe).model_fields[key].default
        if key not in used and getattr(recipe, key) != default:
            raise DataError(
                f"data.{key} has no effect on '{recipe.source}'.",
                got=getattr(recipe, key),
                hint=f"--set data.{key}={'null' if default is None else str(default).lower()}",
            )


def refuse_sizes_without_effect(recipe: DataRecipe, inputs: InputKind) -> None:
    """Refuse sizes of text and of windows to samples that have none; captions are as long as they are.

    Raises:
        DataError: `data.vocab_size`, `data.context` or `data.val_tokens` is not at its default, and not read.
    """
    read = {"tokens": ("vocab_size", "context"), "pairs": ("vocab_size", "context"), "series": ("context",)}
    unread = {"vocab_size", "context", "val_tokens"}.difference(read.get(inputs, ()))
    refuse_without_effect(recipe, used=_OF_SOME_SOURCES, also=sorted(unread))


def check_suits(source: Source, task: TaskRecipe, *, name: str) -> None:
    """Refuse a source that does not have what the task asks for.

    Raises:
        DataError: It has no labels to classify by, no values to predict, no target text, or no caption.
    """
    shape, train = source.shape, source.train
    has = {
        "classification": train.labels is not None,
        "regression": train.values is not None,
        "seq2seq": shape.inputs == "pairs",
        "contrastive": shape.inputs == "captions",
    }
    if not has.get(task.name, False):
        suited = [other for other, suits in has.items() if suits]
        raise DataError(
            f"data.source '{name}' does not suit the task {task.name}: {_WANTS[task.name]}.",
            hint=f"--set task.name={suited[0]}" if suited else "--set data.source=digits",
        )


_WANTS = {
    "lm": "it is no running text",
    "classification": "its samples have no classes",
    "regression": "it has no numbers to predict",
    "seq2seq": "it is not made of pairs of texts",
    "contrastive": "it has no images with captions",
}


def check_source(source: Source, *, name: str) -> None:
    """Refuse labels and values that nothing can be learnt from.

    Raises:
        DataError: A split is empty, its labels or values are of another number than its samples, a label is out of range, a
            value is not finite, there is only one class, or a class has a single training sample.
    """
    num_classes = len(source.classes) or source.shape.num_outputs or 0
    for split, part in source.parts.items():
        if not len(part):
            raise DataError(f"data.source '{name}': the {split} split is empty.")
        for what, column in (("labels", part.labels), ("values", part.values)):
            if column is not None and len(column) != len(part):
                raise DataError(
                    f"data.source '{name}': the {split} split has {len(part):,} samples and {len(column):,} {what}."
                )
        if part.values is not None:
            check_finite(
                part.values, np.arange(len(part)), f"data.source '{name}': values of the {split} split"
            )
        if part.labels is not None:
            _check_labels(part.labels, num_classes, f"data.source '{name}': the {split} split")
    if source.train.labels is not None:
        _check_classes(source, name)


def _check_labels(labels: npt.NDArray[np.int64], num_classes: int, where: str) -> None:
    bad = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(bad):
        raise DataError(
            f"{where} has labels out of range: {num_in(len(bad), 'sample')}, the first of which is number {bad[0]}; "
            f"{num_classes} classes have labels 0 to {num_classes - 1}.",
            got=int(labels[bad[0]]),
            hint="mend the labels, or leave those samples out",
        )


def _check_classes(source: Source, name: str) -> None:
    assert source.train.labels is not None  # noqa: S101 - asked by the caller
    counts = np.bincount(source.train.labels, minlength=len(source.classes))
    if np.count_nonzero(counts) < 2:
        raise DataError(
            f"data.source '{name}' has training samples of one class only: nothing is to be told apart.",
            got=_class_name(source.classes, int(source.train.labels[0])),
            hint="add samples of another class",
        )
    alone = [_class_name(source.classes, label) for label in np.flatnonzero(counts == 1).tolist()]
    if alone and source.val is None:
        raise DataError(
            f"data.source '{name}': {num_in(len(alone), 'class', 'classes')} with a single sample, which cannot be "
            f"both learnt from and held out: {', '.join(alone[:5])}{', ...' if len(alone) > 5 else ''}.",
            hint="add samples of it, or leave the class out",
        )


def _class_name(classes: Sequence[str], label: int) -> str:
    return classes[label] if label < len(classes) else str(label)


def check_finite(array: npt.NDArray[Any], indices: npt.NDArray[np.intp], where: str) -> None:
    """Refuse numbers that are infinite or none.

    Args:
        array: Samples [B, ...].
        indices: Of the samples in their split [B].
        where: Begins the sentence.

    Raises:
        DataError: One is not finite.
    """
    if array.dtype.kind != "f":
        return
    bad = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(1))
    if len(bad):
        raise DataError(
            f"{where} are not all finite: sample {indices[bad[0]]} has NaN or infinity in float32.",
            hint="mend the sample, or leave it out",
        )


def left_out(bad: Sequence[str]) -> tuple[str, ...]:
    """Return the note that names samples which were left out because they cannot be decoded; none where there are none.

    Args:
        bad: A name and a reason each.

    Example:
        >>> left_out(["a.png: it is empty"]), left_out([])
        (('Left out: a.png: it is empty.',), ())
    """
    if not bad:
        return ()
    more = f"; and {len(bad) - _MAX_NAMED:,} more" if len(bad) > _MAX_NAMED else ""
    return (f"Left out: {'; '.join(bad[:_MAX_NAMED])}{more}.",)


def num_in(num: int, one: str, more: str | None = None) -> str:
    """Return a count with its noun.

    Example:
        >>> num_in(1, "class", "classes"), num_in(2_000, "sample")
        ('1 class', '2,000 samples')
    """
    return f"{num:,} {one if num == 1 else more or one + 's'}"
