"""What is asked of each row of a table, and which split the row belongs to.

Shapes: N rows of all splits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from kleiber.data.data import Split
from kleiber.data.table.files import split_in
from kleiber.data.table.numbers import as_number
from kleiber.data.table.table import Rows, Table, is_missing
from kleiber.errors import DataError
from kleiber.runs import TaskRecipe
from kleiber.runs.recipe import DataRecipe

__all__ = ["SPLIT_NUMBERS", "Answers", "read_answers", "read_splits"]

SPLIT_NUMBERS: dict[Split, int] = {"train": 0, "val": 1, "test": 2}
_LEFT_OUT = 3

_MAX_CLASSES = 100
"""More than this, and more than half as many as rows, are no classes."""


@dataclass(frozen=True)
class Answers:
    """One entry a row, of all splits."""

    splits: npt.NDArray[np.int8]
    """`SPLIT_NUMBERS` [N]; another number is a row that is left out."""
    labels: npt.NDArray[np.int64] | None = None
    """[N]"""
    values: npt.NDArray[np.float32] | None = None
    """[N, 1]"""
    classes: tuple[str, ...] = ()
    num_bad: int = 0
    """Rows that do not parse or have no answer, left out as asked."""

    def without(self, rows: npt.NDArray[np.bool_]) -> Answers:
        """Return the answers with these rows [N] left out as bad ones."""
        num = int(np.count_nonzero(rows & (self.splits != _LEFT_OUT)))
        splits = np.where(rows, np.int8(_LEFT_OUT), self.splits)
        return Answers(splits, self.labels, self.values, self.classes, self.num_bad + num)

    def at(self, rows: npt.NDArray[np.intp]) -> Answers:
        """Return the answers of these rows alone."""
        return Answers(
            self.splits[rows],
            None if self.labels is None else self.labels[rows],
            None if self.values is None else self.values[rows],
            self.classes,
            self.num_bad,
        )


def read_answers(table: Table, recipe: DataRecipe, task: TaskRecipe) -> Answers:
    """Return the classes or numbers in the column to predict.

    Raises:
        DataError: There is no such column, it is empty, a cell of it is empty or no number, a class of another split is
            unknown to train, or the column that says the split says something else.
    """
    column = table.target(recipe)
    cells: list[object] = []
    bad: list[bool] = []
    for rows in table.chunks():
        read = _class_of if task.name == "classification" else as_number
        for index, cell in enumerate(rows.columns[column]):
            is_bad = _is_unanswered(cell, table.classes.get(column))
            if is_bad and not recipe.skips_bad_samples:
                raise DataError(
                    f"column {column!r} of '{table.source}' is what is to be predicted, and it is empty at "
                    f"{rows.place(index)}.",
                    hint="--set data.skips_bad_samples=true   to leave such rows out, or data.target=COLUMN",
                )
            bad.append(is_bad)
            cells.append(None if is_bad else read(cell, column, partial(rows.place, index)))
    if all(bad):
        raise DataError(
            f"column {column!r} of '{table.source}' is empty.",
            hint=f"--set data.target={next(name for name in (*table.columns, 'COLUMN') if name != column)}",
        )
    splits = read_splits(table, recipe).without(np.array(bad))
    if task.name != "classification":
        values = np.array([np.nan if cell is None else cell for cell in cells], np.float32)[:, None]
        return Answers(splits.splits, values=values, num_bad=splits.num_bad)
    return _classified(table, column, cells, splits)


def read_splits(table: Table, recipe: DataRecipe) -> Answers:
    """Return the split that each row says it is of, by `data.split_field` or its file's name; train where nothing says it.

    Raises:
        DataError: There is no such column, a cell of it is no split's name, or a column that says the split is not named.
    """
    field = recipe.split_field
    if field is not None:
        table.require(field, "split_field")
    numbers: list[int] = []
    num_bad = 0
    for rows in table.chunks():
        num_bad += rows.num_bad
        if field is None:
            numbers += [SPLIT_NUMBERS[rows.split or "train"]] * len(rows)
            _refuse_hidden_split(rows, table, recipe)
        elif rows.split is not None:
            raise DataError(
                f"data.split_field has no effect: the names of the files of '{table.source}' say the splits.",
                got=field,
                hint="--set data.split_field=null",
            )
        else:
            numbers += [_split_number(cell, rows, index) for index, cell in enumerate(rows.columns[field])]
    splits = np.array(numbers, np.int8)
    if not np.any(splits == SPLIT_NUMBERS["train"]):
        raise DataError(
            f"data.source '{table.source}' has no training rows.",
            hint="a row of the train split says 'train' in its data.split_field",
        )
    return Answers(splits, num_bad=num_bad)


def _split_number(cell: object, rows: Rows, index: int) -> int:
    split = split_in(str(cell))
    if split is None:
        raise DataError(
            f"data.split_field must say train, valid or test, and it does not at {rows.place(index)}.",
            got=cell,
        )
    return SPLIT_NUMBERS[split]


def _refuse_hidden_split(rows: Rows, table: Table, recipe: DataRecipe) -> None:
    cells = rows.columns.get("split", ())
    if cells and all(split_in(str(cell)) for cell in cells):
        if "split" in (recipe.target, recipe.field, *(recipe.columns or ())):
            return
        raise DataError(
            f"'{table.source}' has a column 'split' that says where its rows belong.",
            hint="--set data.split_field=split",
        )


def _is_unanswered(cell: object, names: Sequence[str] | None) -> bool:
    # Published test splits without labels carry -1 in a column of labels.
    return is_missing(cell) or (names is not None and cell == -1)


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


def _classified(table: Table, column: str, cells: Sequence[object], answers: Answers) -> Answers:
    classes = table.classes.get(column)
    if classes is not None:  # the source numbers them itself
        labels = np.array([-1 if cell is None else cell for cell in cells], np.int64)
        return Answers(answers.splits, labels, classes=classes, num_bad=answers.num_bad)
    is_train = (answers.splits == SPLIT_NUMBERS["train"]).tolist()
    names = {str(cell) for cell, is_own in zip(cells, is_train, strict=True) if is_own}
    if len(names) > max(_MAX_CLASSES, len(cells) / 2):
        raise DataError(
            f"column {column!r} of '{table.source}' has {len(names):,} different values in {len(cells):,} rows: too many "
            "for classes.",
            hint="--set task.name=regression   if they are numbers, or data.target=COLUMN",
        )
    numbers = {name: label for label, name in enumerate(sorted(names, key=_class_order))}
    for cell in cells:
        if cell is not None and str(cell) not in numbers:
            raise DataError(
                f"column {column!r} of '{table.source}' has a class that no training row has.",
                got=str(cell),
                hint=f"mend it in the file; the training rows have {', '.join(list(numbers)[:5])}",
            )
    labels = np.array([-1 if cell is None else numbers[str(cell)] for cell in cells], np.int64)
    return Answers(answers.splits, labels, classes=tuple(numbers), num_bad=answers.num_bad)


def _class_order(name: str) -> tuple[float, str]:
    """Return what classes are sorted by: numbers by size, then texts."""
    return (int(name), "") if name.lstrip("-").isdecimal() else (float("inf"), name)
