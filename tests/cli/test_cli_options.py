"""Numbers typed on the command line are refused in our words, with a line that works."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kleiber.cli.options import parse_positive, parse_real, parse_whole
from kleiber.errors import UsageError

COMMAND = "kleiber plan gpt:depth=12"


@pytest.mark.parametrize(("text", "value"), [("2e9", 2e9), ("2.6B", 2.6e9), ("0.5", 0.5)])
def test_parse_positive(text, value):
    assert parse_positive(text, "--tokens", COMMAND) == value


@pytest.mark.parametrize("text", ["-2e9", "0", "many", "inf"])
def test_parse_positive_refuses(text):
    with pytest.raises(UsageError) as caught:
        parse_positive(text, "--tokens", COMMAND)
    assert str(caught.value) == (
        f"--tokens must be a positive number. Got {text!r}.\n  try: kleiber plan gpt:depth=12 --tokens 2e9"
    )


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("0.0", 0), ("7", 7), ("4K", 4000), ("1e3", 1000)])
def test_parse_whole(text, value):
    assert parse_whole(text, "--seed", COMMAND) == value
    assert isinstance(parse_whole(text, "--seed", COMMAND), int)


@pytest.mark.parametrize("text", ["-1", "1.5", "x", "", "nan", "2147483648", "1e400"])
def test_parse_whole_refuses(text):
    with pytest.raises(UsageError) as caught:
        parse_whole(text, "--seed", COMMAND)
    assert str(caught.value) == (
        f"--seed must be a whole number from 0 to 2147483647. Got {text!r}.\n"
        "  try: kleiber plan gpt:depth=12 --seed 1"
    )


def test_parse_whole_keeps_its_bounds():
    with pytest.raises(
        UsageError, match=r"--bootstrap must be a whole number from 100 to 200\. Got '99'\.\n.*100$"
    ):
        parse_whole("99", "--bootstrap", COMMAND, minimum=100, maximum=200)
    assert parse_whole("100", "--bootstrap", COMMAND, minimum=100, maximum=200) == 100
    assert parse_whole("200", "--bootstrap", COMMAND, minimum=100, maximum=200) == 200


@given(st.integers(0, 2**31 - 1))
def test_parse_whole_reads_every_seed(value):
    assert parse_whole(str(value), "--seed", COMMAND) == value


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("0.8", 0.8), ("2", 2)])
def test_parse_real(text, value):
    assert parse_real(text, "--temperature", COMMAND, maximum=2) == value


@pytest.mark.parametrize("text", ["-0.1", "2.1", "hot", "nan"])
def test_parse_real_refuses(text):
    with pytest.raises(UsageError) as caught:
        parse_real(text, "--temperature", COMMAND, maximum=2)
    assert str(caught.value) == (
        f"--temperature must be from 0 to 2. Got {text!r}.\n  try: kleiber plan gpt:depth=12 --temperature 1"
    )
