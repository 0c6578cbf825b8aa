"""The error tree: what a person reads and what a script gets."""

from __future__ import annotations

import inspect
import pickle
import re

import pytest

from kleiber import errors
from kleiber.errors import KleiberError, MissingExtraError, UsageError, nearest

CLASSES = [c for c in vars(errors).values() if inspect.isclass(c) and issubclass(c, KleiberError)]

EXIT_CODES = {
    "KleiberError": 1,
    "UsageError": 2,
    "RecipeError": 2,
    "DataError": 2,
    "RunFolderError": 2,
    "ConventionError": 2,
    "MissingExtraError": 2,
    "CheckpointError": 1,
    "DivergedError": 1,
    "GateError": 1,
    "StorageError": 1,
    "Interrupted": 130,
}


def test_every_class_is_exported_and_drawn_in_the_tree():
    names = {cls.__name__ for cls in CLASSES}
    assert names | {"nearest"} == set(errors.__all__)
    drawn = set(re.findall(r"[A-Z]\w*(?:Error|Interrupted)\b|Interrupted", errors.__doc__ or ""))
    assert drawn == names


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_exit_codes(cls):
    assert cls("x").exit_code == EXIT_CODES[cls.__name__]


def test_the_message_shows_what_was_got_and_what_would_work():
    error = UsageError("--tokens must be a positive number.", got="-2e9", hint="kleiber plan gpt:depth=12")
    assert str(error) == ("--tokens must be a positive number. Got '-2e9'.\n  try: kleiber plan gpt:depth=12")


def test_a_message_alone_stays_alone():
    assert str(KleiberError("it broke.")) == "it broke."


def test_falsy_values_are_shown_too():
    assert str(KleiberError("must be positive.", got=0)) == "must be positive. Got 0."


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_errors_cross_process_borders_whole(cls):
    error = pickle.loads(pickle.dumps(cls("a.", got=3, hint="b")))  # noqa: S301 - our own bytes
    assert (type(error), error.message, error.got, error.hint) == (cls, "a.", 3, "b")
    assert str(error) == "a. Got 3.\n  try: b"


def test_a_missing_extra_says_what_to_install():
    error = MissingExtraError.of("datasets", "data", "Reading .parquet")
    assert str(error) == (
        "Reading .parquet needs the package 'datasets', which is not installed.\n"
        "  try: pip install 'kleiber[data]'"
    )


@pytest.mark.parametrize(
    ("name", "clause"),
    [
        ("num_step", "Did you mean 'num_steps'?"),
        ("qqqq", "Known: batch_size, num_steps."),
    ],
)
def test_nearest(name, clause):
    assert nearest(name, ["num_steps", "batch_size"]) == clause
