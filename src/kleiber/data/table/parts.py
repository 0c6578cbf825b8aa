"""From the answers of a table's rows to the splits, and to the cache and back.

Shapes: N rows of all splits.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from kleiber.data.data import Samples
from kleiber.data.prepared import Prepared
from kleiber.data.source import ArraySamples, Part
from kleiber.data.splits import carved
from kleiber.data.table.answers import SPLIT_NUMBERS, Answers
from kleiber.runs.recipe import DataRecipe

__all__ = ["load_answers", "parts_of", "save_answers", "train_rows"]


def parts_of(
    answers: Answers,
    samples: Samples,
    *,
    lengths: npt.NDArray[np.int64] | None = None,
    groups: npt.NDArray[np.int64] | None = None,
) -> dict[str, Part]:
    """Return the splits that there are.

    Args:
        answers: Of all rows.
        samples: All rows [N].
        lengths: Of texts [N].
        groups: Near-duplicates [N].
    """
    whole = Part(samples, answers.labels, answers.values, lengths, groups)
    rows = {split: np.flatnonzero(answers.splits == number) for split, number in SPLIT_NUMBERS.items()}
    return {split: whole.take(indices) for split, indices in rows.items() if len(indices)}


def train_rows(
    answers: Answers, recipe: DataRecipe, *, groups: npt.NDArray[np.int64] | None = None
) -> npt.NDArray[np.intp]:
    """Return which rows will be learnt from, once what is held out is carved out of the training split.

    Raises:
        DataError: The rows cannot be split.
    """
    rows = ArraySamples({"rows": np.arange(len(answers.splits))})
    train = carved(parts_of(answers, rows, groups=groups), recipe)["train"]
    return train.samples.gather(np.arange(len(train)))["rows"]


def save_answers(answers: Answers, folder: Path) -> None:
    """Write the answers as arrays; classes and counts belong to the meta of what is prepared."""
    np.save(folder / "splits.npy", answers.splits)
    for name, column in (("labels", answers.labels), ("values", answers.values)):
        if column is not None:
            np.save(folder / f"{name}.npy", column)


def load_answers(prepared: Prepared) -> Answers:
    """Return what `save_answers` wrote.

    Raises:
        DataError: An array is damaged.
    """
    return Answers(
        prepared.read("splits"),
        labels=prepared.read("labels") if prepared.has("labels") else None,
        values=prepared.read("values") if prepared.has("values") else None,
        classes=prepared.meta.classes,
        num_bad=prepared.meta.num_bad_samples,
    )
