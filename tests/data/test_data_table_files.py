from __future__ import annotations

from pathlib import Path

import pytest

from kleiber.data.table.files import split_in, table_files
from kleiber.errors import DataError

CSV = (".csv", ".tsv")


def fill(folder: Path, *names: str) -> str:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return str(folder)


def found(folder: Path, *names: str) -> list[tuple[str, str | None]]:
    argument = fill(folder, *names)
    return [(file.path.name, file.split) for file in table_files(f"csv:{argument}", argument, CSV)]


def test_a_named_file_is_taken_whatever_split_its_name_says(tmp_path: Path) -> None:
    path = fill(tmp_path, "train.csv") + "/train.csv"
    assert [(file.path, file.split) for file in table_files(f"csv:{path}", path, CSV)] == [(Path(path), None)]


def test_names_in_a_folder_say_the_split(tmp_path: Path) -> None:
    names = ("adult-test.csv.xz", "data/train-00000-of-00002.csv", "dev.tsv", ".git/train.csv", "notes.txt")
    assert found(tmp_path, *names) == [
        ("adult-test.csv.xz", "test"),
        ("train-00000-of-00002.csv", "train"),
        ("dev.tsv", "val"),
    ]


def test_names_that_say_nothing_make_one_table(tmp_path: Path) -> None:
    assert found(tmp_path, "b.csv", "a.csv") == [("a.csv", None), ("b.csv", None)]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("Training", "train"),
        ("test_2016_flickr", "test"),
        ("latest", None),
        ("validation", "val"),
        ("contest", None),
    ],
)
def test_the_first_word_that_is_a_split_counts(name: str, split: str | None) -> None:
    assert split_in(name) == split


def refused(argument: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        table_files(f"csv:{argument}", argument, CSV)


def test_a_missing_path_names_its_neighbour(tmp_path: Path) -> None:
    fill(tmp_path, "adult.csv")
    refused(f"{tmp_path}/adlut.csv", r"there is no such file or folder\. Did you mean 'adult\.csv'\?")
    refused("", "there is no such file or folder")


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    refused(
        fill(tmp_path, "a.xlsx") + "/a.xlsx", r"must name a file that ends in \.csv or \.tsv\. Got 'a\.xlsx'"
    )


def test_a_folder_without_tables_is_refused(tmp_path: Path) -> None:
    refused(fill(tmp_path, "a.txt"), r"the folder holds no \.csv or \.tsv files")


def test_a_file_that_says_no_split_beside_one_that_does_is_refused(tmp_path: Path) -> None:
    refused(fill(tmp_path, "train.csv", "more.csv"), r"train\.csv says its split, and more\.csv does not")


def test_splits_without_train_are_refused(tmp_path: Path) -> None:
    refused(fill(tmp_path, "test.csv", "valid.csv"), r"no file's name says that it is the train split")
