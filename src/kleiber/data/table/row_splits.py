"""Which split each row of a table says it is of."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kleiber.data.table.answers import SPLIT_NUMBERS, Answers
from kleiber.data.table.files import split_in
from kleiber.data.table.table import Rows, Table
from kleiber.errors import DataError
from kleiber.runs.recipe import DataRecipe

__all__ = ["read_splits"]


def read_splits(table: Table, recipe: DataRecipe) -> Answers:
    """Return the split that each row says it is of, by `data.split_field` or its file's name; train where nothing says it.

    Raises:
        DataError: There is no such column, a cell of it is no split's name, or a column that says the split is not named.
    """
    field = recipe.split_field
    if field is not None:
        table.require(field, "split_field")
    splits: list[npt.NDArray[np.int8]] = []
    num_bad = 0
    for rows in table.chunks():
        num_bad += rows.num_bad
        if field is None:
            splits.append(np.full(len(rows), SPLIT_NUMBERS[rows.split or "train"], np.int8))
            _refuse_hidden_split(rows, table, recipe)
        elif rows.split is not None:
            raise DataError(
                f"data.split_field has no effect: the names of the files of '{table.source}' say the splits.",
                got=field,
                hint="--set data.split_field=null",
            )
        else:
            own = [_split_number(cell, rows, index) for index, cell in enumerate(rows.columns[field])]
            splits.append(np.array(own, np.int8))
    whole = np.concatenate(splits) if splits else np.empty(0, np.int8)
    if not np.any(whole == SPLIT_NUMBERS["train"]):
        raise DataError(
            f"data.source '{table.source}' has no training rows.",
            hint="a row of the train split says 'train' in its data.split_field",
        )
    return Answers(whole, num_bad=num_bad)


def _split_number(cell: object, rows: Rows, index: int) -> int:
    split = split_in(str(cell))
    if split is None:
        raise DataError(
            f"data.split_field must say train, valid or test, and it does not at {rows.place(index)}.",
            got=cell,
            hint="--set data.split_field=null   holds out a part of the rows instead",
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
