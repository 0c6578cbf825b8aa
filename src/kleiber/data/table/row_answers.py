"""The column to predict: classes or numbers, a chunk of rows at a time.

Shapes: N rows of all splits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from kleiber.data.table.answers import SPLIT_NUMBERS, Answers
from kleiber.data.table.numbers import as_number
from kleiber.data.table.row_splits import read_splits
from kleiber.data.table.table import Rows, Table, is_missing
from kleiber.errors import DataError
from kleiber.runs import TaskRecipe
from kleiber.runs.recipe import DataRecipe

__all__ = ["read_answers"]

_MAX_CLASSES = 100
"""More than this, and more than half as many as rows, are no classes."""

_WHOLE_NUMBER = re.compile(r"-?[0-9]+")


def read_answers(table: Table, recipe: DataRecipe, task: TaskRecipe) -> Answers:
    """Return the classes or numbers in the column to predict.

    Raises:
        DataError: There is no such column, it is empty, a cell of it is empty or no number, a class of another split is
            unknown to train, or the column that says the split says something else.
    """
    column = table.target(recipe)
    names: dict[str, int] = {}
    is_classified = task.name == "classification"
    read = partial(_codes, names=names, given=table.classes.get(column)) if is_classified else _values
    chunks = [read(rows, column, skips_bad=recipe.skips_bad_samples) for rows in table.chunks()]
    answers_N = np.concatenate(chunks) if chunks else np.empty(0)
    if not len(answers_N):
        raise DataError(
            f"data.source '{table.source}' is empty: it has columns and no rows.",
            got=list(table.columns),
            hint="name a table with a header and rows",
        )
    if np.isnan(answers_N).all():
        raise DataError(
            f"column {column!r} of '{table.source}' is empty.",
            hint=f"--set data.target={next(name for name in (*table.columns, 'COLUMN') if name != column)}",
        )
    splits = read_splits(table, recipe).without(np.isnan(answers_N))
    if not is_classified:
        return Answers(splits.splits, values=answers_N.astype(np.float32)[:, None], num_bad=splits.num_bad)
    codes_N = np.nan_to_num(answers_N, nan=-1).astype(np.int64)
    if column in table.classes:
        return Answers(splits.splits, codes_N, classes=table.classes[column], num_bad=splits.num_bad)
    labels_N, classes = _sorted_classes(
        codes_N, names, splits, where=f"column {column!r} of '{table.source}'"
    )
    return Answers(splits.splits, labels_N, classes=classes, num_bad=splits.num_bad)


def _values(rows: Rows, column: str, *, skips_bad: bool) -> npt.NDArray[np.float64]:
    return _read(rows, column, as_number, is_missing, skips_bad=skips_bad)


def _codes(
    rows: Rows, column: str, *, names: dict[str, int], given: Sequence[str] | None, skips_bad: bool
) -> npt.NDArray[np.float64]:
    """Return a number for each class, its label where the source numbers them; new ones go into `names`."""

    def code_of(cell: object, column: str, place: Callable[[], str]) -> float:
        known = _class_of(cell, column, place)
        return (
            known
            if given is not None and isinstance(known, int)
            else names.setdefault(str(known), len(names))
        )

    def is_unanswered(cell: object) -> bool:
        # Published test splits without labels carry -1 in a column of labels.
        return is_missing(cell) or (given is not None and cell == -1)

    return _read(rows, column, code_of, is_unanswered, skips_bad=skips_bad)


def _read(
    rows: Rows,
    column: str,
    read: Callable[[object, str, Callable[[], str]], float],
    is_unanswered: Callable[[object], bool],
    *,
    skips_bad: bool,
) -> npt.NDArray[np.float64]:
    """Return the cells of a column as numbers, NaN where there is no answer."""
    answers_B = np.full(len(rows), np.nan)
    for index, cell in enumerate(rows.columns[column]):
        if not is_unanswered(cell):
            answers_B[index] = read(cell, column, partial(rows.place, index))
        elif not skips_bad:
            raise DataError(
                f"column {column!r} is what is to be predicted, and it is empty at {rows.place(index)}.",
                hint="--set data.skips_bad_samples=true   to leave such rows out, or data.target=COLUMN",
            )
    return answers_B


def _class_of(cell: object, column: str, place: Callable[[], str]) -> object:
    if isinstance(cell, bool | str):
        return str(cell).strip()
    if isinstance(cell, int):
        return cell
    if isinstance(cell, float) and cell.is_integer():
        return int(cell)
    raise DataError(
        f"column {column!r} must hold classes, and it does not at {place()}.",
        got=cell,
        hint="--set task.name=regression" if isinstance(cell, float) else None,
    )


def _sorted_classes(
    codes_N: npt.NDArray[np.int64], names: Mapping[str, int], answers: Answers, *, where: str
) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Return labels by the sorted classes of the training rows, and those classes."""
    name_of = list(names)
    met = np.unique(codes_N[answers.splits == SPLIT_NUMBERS["train"]]).tolist()
    classes = sorted((name_of[code] for code in met), key=_class_order)
    if len(classes) > max(_MAX_CLASSES, len(codes_N) / 2):
        raise DataError(
            f"{where} has {len(classes):,} different values in {len(codes_N):,} rows: too many for classes.",
            hint="--set task.name=regression   if they are numbers, or data.target=COLUMN",
        )
    strange = next((name for name, code in names.items() if code not in met), None)
    if strange is not None:
        raise DataError(
            f"{where} has a class that no training row has.",
            got=strange,
            hint=f"mend it in the file; the training rows have {', '.join(classes[:5])}",
        )
    label_of = np.full(len(name_of) + 1, -1)  # the last one is of the rows that are left out
    label_of[[names[name] for name in classes]] = np.arange(len(classes))
    return label_of[codes_N], tuple(classes)


def _class_order(name: str) -> tuple[float, str]:
    """Return what classes are sorted by: numbers by size, then texts."""
    return (int(name), name) if _WHOLE_NUMBER.fullmatch(name) else (float("inf"), name)
