from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kleiber.errors import DataError, KleiberError, UsageError
from kleiber.scaling.where import Condition

CELLS = {
    "loss": "3.5",
    "params": "1e8",
    "tokens": "2B",
    "group": "rpj",
    "val loss": "3.4",
    "7b": "x",
    "seed": "",
    "train.lr": "1e-3",
}


def holds(text: str) -> bool:
    return Condition(text)(CELLS, "rows.csv line 2")


@pytest.mark.parametrize(
    "text",
    [
        "loss < 4",
        "loss <= 3.5",
        "3 < loss < 4",
        "not loss > 4",
        'group == "rpj"',
        "group != 'c4'",
        "group in ('c4', 'rpj')",
        "loss in [1, 3.50]",
        "group not in ('c4', 'rw')",
        "loss > 9 or params == 100000000",
        "tokens / params == 20",
        "tokens == 2e9 and params * 20 - tokens == 0 and -loss < 0 and loss + 1 > 4",
        "val_loss < loss",
        "_7b == 'x'",
        "train.lr < 0.01",
        # An empty cell equals nothing and is in no order.
        "seed != 3",
        "not seed < 3 and not seed >= 3 and not seed == ''",
        "not seed + 1 > 0",
        "group != 3",
        '" loss" != group',
    ],
)
def test_conditions_that_hold(text):
    assert holds(text) is True


@pytest.mark.parametrize(
    "text",
    ["loss < 3", "group == 'c4'", "not loss < 4", "loss == '3.50'", "loss < 4 and loss > 4", "seed == 3", "seed in (1, 2)", "loss != 3.500"],
)  # fmt: skip
def test_conditions_that_do_not_hold(text):
    assert holds(text) is False


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("loss <", r"does not read as a condition at character 7, 'its end'"),
        ("loss < 4 &&", r"at character \d+, '&+'"),
        ("(loss < 4", r"at character 1, '\(loss < 4'"),
        ("", r"at character 1, 'its end'"),
        ("los < 4", r"'los' at character 1 is no column\. Did you mean 'loss'"),
        ("loss < 4 and zzzz == 1", r"'zzzz' at character 14 is no column\. Known: "),
        ("loss", r"'loss' at character 1 is not true or false"),
        ("loss and group", "'loss' at character 1 is not true or false"),
        ("loss in 3", "'3' at character 9 must be several values in parentheses"),
        ("loss in (seed, 1)", "'seed' at character 10 is neither a number nor a text"),
        ("len(group) == 3", r"'len\(group\)' at character 1 is not something that a condition may hold"),
        ("__import__('os').system('x') == 0", "is not something that a condition may hold"),
        ("group.__class__ == 1", "'group.__class__' at character 1 is no column"),
        ("(lambda: 1)() == 1", "is not something that a condition may hold"),
        ("loss ** 9 ** 9 > 1", "is not something that a condition may hold"),
        ("[x for x in (1, 2)] == 1", "is not something that a condition may hold"),
        ("loss if 1 else 2", "is not something that a condition may hold"),
        ("loss is 3", "is not something that a condition may hold"),
        ("f'{loss}' == '3'", "is not something that a condition may hold"),
        ("loss == None", "'None' at character 9 is not something that a condition may hold"),
        ("(a := 3) == 3", "is not something that a condition may hold"),
        ("loss[0] == 3", "is not something that a condition may hold"),
        ("loss & 1 == 1", "is not something that a condition may hold"),
        ("~loss == 1", "is not something that a condition may hold"),
        ("loss < 1" + "0" * 400, "is too large"),
        ("loss < 4" + " or loss < 4" * 400, r"--where takes up to 2000 characters\. Got"),
        ("loss\0 < 4", "does not read as a condition"),
    ],
)
def test_everything_else_is_refused(text, message):
    with pytest.raises(UsageError, match=message) as caught:
        holds(text)
    assert """try: --where 'loss < 4 and group == "rpj"'""" in str(caught.value)


def test_a_text_is_in_no_order():
    with pytest.raises(
        DataError, match=r"rows\.csv line 2: --where takes group for a number, which it is not\. Got 'rpj'"
    ):
        holds("group < 4")


def test_what_cannot_be_worked_out_is_refused():
    with pytest.raises(
        DataError, match=r"rows\.csv line 2: --where cannot work out loss / \(params - params\)"
    ):
        holds("loss / (params - params) > 1")


@given(st.text(max_size=60))
def test_any_text_holds_or_is_refused(text):
    with contextlib.suppress(KleiberError):
        assert isinstance(holds(text), bool)


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_compare_as_numbers(left, right):
    cells = {"x": repr(left)}
    assert Condition(f"x < {right!r}")(cells, "") is (left < right)
    assert Condition(f"x == {right!r}")(cells, "") is (left == right)
