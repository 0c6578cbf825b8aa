from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pytest

from kleiber.data.table.row_answers import read_answers
from kleiber.data.table.row_splits import read_splits
from kleiber.data.table.table import Rows, Table
from kleiber.errors import DataError
from kleiber.runs import TaskRecipe
from kleiber.runs.recipe import DataRecipe

CLASSIFICATION, REGRESSION = TaskRecipe(name="classification"), TaskRecipe(name="regression")


def table_of(
    columns: Mapping[str, Sequence[object]],
    classes: Mapping[str, tuple[str, ...]] | None = None,
    num_bad: int = 0,
) -> Table:
    """Return a table whose rows come two at a time."""
    num = len(next(iter(columns.values())))

    def chunks() -> Iterator[Rows]:
        for start in range(0, num, 2):
            part = {name: cells[start : start + 2] for name, cells in columns.items()}
            numbers = range(start + 1, start + 1 + len(next(iter(part.values()))))
            yield Rows(part, "a.csv", "row", numbers, num_bad=num_bad if start == 0 else 0)

    return Table("csv:a.csv", tuple(columns), True, chunks, (), classes or {})


@pytest.mark.parametrize(
    ("cells", "classes", "labels"),
    [
        (["b", "a ", "b"], ("a", "b"), [1, 0, 1]),
        ([10, 9, -1], ("-1", "9", "10"), [2, 1, 0]),
        (["10", "9", "x"], ("9", "10", "x"), [1, 0, 2]),
        ([1.0, 0, 1], ("0", "1"), [1, 0, 1]),
        ([True, False, True], ("False", "True"), [1, 0, 1]),
    ],
)
def test_classes_are_sorted_numbers_by_size(
    cells: list[object], classes: tuple[str, ...], labels: list[int]
) -> None:
    answers = read_answers(table_of({"x": [0, 0, 0], "y": cells}), DataRecipe(), CLASSIFICATION)
    assert answers.classes == classes
    assert answers.labels is not None
    assert answers.labels.tolist() == labels
    assert answers.values is None


def test_the_source_may_number_the_classes_itself() -> None:
    table = table_of({"y": [1, 0, -1]}, {"y": ("neg", "pos")})
    answers = read_answers(table, DataRecipe(skips_bad_samples=True), CLASSIFICATION)
    assert answers.classes == ("neg", "pos")
    assert answers.labels is not None
    assert answers.labels.tolist() == [1, 0, -1]
    assert answers.splits.tolist() == [0, 0, 3]
    assert answers.num_bad == 1
    with pytest.raises(DataError, match="it is empty at row 3"):
        read_answers(table, DataRecipe(), CLASSIFICATION)


def test_numbers_to_predict_are_read_of_the_named_column() -> None:
    table = table_of({"y": ["1.5", " 2 ", "?"], "x": [0, 0, 0]}, num_bad=4)
    answers = read_answers(table, DataRecipe(target="y", skips_bad_samples=True), REGRESSION)
    assert answers.values is not None
    np.testing.assert_array_equal(answers.values, np.float32([[1.5], [2], [np.nan]]))
    assert answers.num_bad == 5, "four that do not parse, one without an answer"


def test_rows_say_their_split_in_many_words() -> None:
    table = table_of({"part": ["train", "Valid", "dev", "TEST", "test_2016"], "y": [1, 1, 1, 1, 1]})
    assert read_splits(table, DataRecipe(split_field="part")).splits.tolist() == [0, 1, 1, 2, 2]


def refused(
    columns: Mapping[str, Sequence[object]], message: str, task: TaskRecipe = CLASSIFICATION, **keys: object
) -> None:
    with pytest.raises(DataError, match=message):
        read_answers(table_of(columns), DataRecipe.model_validate(keys), task)


def test_a_column_that_is_not_there_is_named_with_the_nearest() -> None:
    refused(
        {"x": [1], "label": [1]},
        r"data\.target: 'csv:a\.csv' has no column 'lable'\. Did you mean 'label'\?",
        target="lable",
    )
    refused({"x": [1], "y": [1]}, r"data\.split_field: .* has no column 'part'", split_field="part")


def test_an_empty_column_is_named() -> None:
    refused(
        {"x": [1, 2], "y": ["", None]},
        r"column 'y' of 'csv:a\.csv' is empty\.\n  try: --set data\.target=x",
        skips_bad_samples=True,
    )
    refused(
        {"x": [1, 2], "y": ["a", ""]},
        r"column 'y' is what is to be predicted, and it is empty at row 2 of a\.csv",
    )


@pytest.mark.parametrize(("cell", "got"), [("tall", "'tall'"), ("1_000", "'1_000'"), (None, None)])
def test_what_is_no_number_is_refused_in_regression(cell: object, got: str | None) -> None:
    message = (
        "it is empty at row 2"
        if got is None
        else rf"column 'y' must hold numbers, and it does not at row 2 of a\.csv\. Got {got}"
    )
    refused({"y": [1.0, cell]}, message, REGRESSION)


@pytest.mark.parametrize("cell", ["inf", 1e39])
def test_a_number_beyond_float32_is_refused(cell: object) -> None:
    refused(
        {"y": [1.0, cell]}, r"column 'y' holds a number that is not finite in float32 at row 2", REGRESSION
    )


def test_fractions_and_lists_are_no_classes() -> None:
    refused(
        {"y": [1, 1.5]},
        r"column 'y' must hold classes, and it does not at row 2 of a\.csv\. Got 1\.5\.\n  try: --set task\.name=regression",
    )
    refused({"y": [1, [2]]}, r"column 'y' must hold classes.*Got \[2\]\.$")


def test_as_many_classes_as_rows_are_refused() -> None:
    refused(
        {"y": list(range(101))}, "column 'y' .* has 101 different values in 101 rows: too many for classes"
    )


def test_a_class_that_train_lacks_is_named() -> None:
    refused(
        {"part": ["train", "train", "test"], "y": ["<=50K", ">50K", "<=50K."]},
        r"has a class that no training row has\. Got '<=50K\.'\.\n  try: .*the training rows have <=50K, >50K",
        split_field="part",
    )


def test_a_word_that_is_no_split_is_named() -> None:
    refused(
        {"part": ["train", "holdout"], "y": [0, 1]},
        r"must say train, valid or test, and it does not at row 2 of a\.csv\. Got 'holdout'",
        split_field="part",
    )
    refused({"part": ["test", "val"], "y": [0, 1]}, "has no training rows", split_field="part")


def test_a_column_that_says_the_split_is_not_passed_over() -> None:
    columns = {"split": ["train", "test"], "x": [1, 2], "y": [0, 1]}
    refused(
        columns,
        r"has a column 'split' that says where its rows belong\.\n  try: --set data\.split_field=split",
    )
    assert read_answers(
        table_of(columns), DataRecipe(columns=("split", "x")), CLASSIFICATION
    ).splits.tolist() == [0, 0]


def test_file_names_and_a_column_cannot_both_say_the_split() -> None:
    rows = Rows({"part": ["train"], "y": [1]}, "train.csv", "row", [1], "train")
    table = Table("csv:folder", ("part", "y"), True, lambda: iter([rows]), (), {})
    with pytest.raises(DataError, match=r"data\.split_field has no effect: the names of the files"):
        read_splits(table, DataRecipe(split_field="part"))
