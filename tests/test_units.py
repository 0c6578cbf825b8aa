"""Numbers as people type and read them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kleiber.errors import UsageError
from kleiber.units import (
    format_bytes,
    format_count,
    format_flops,
    format_loss,
    format_seconds,
    parse_count,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("512", 512),
        ("2e9", 2e9),
        ("2E9", 2e9),
        ("2.6B", 2.6e9),
        ("124M", 124e6),
        ("124m", 124e6),
        ("1.5k", 1500),
        ("3T", 3e12),
        (".5", 0.5),
        ("+7", 7),
        (" 8 ", 8),
        ("1e3K", 1e6),
    ],
)
def test_parse_count(text, value):
    assert parse_count(text, "--tokens") == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize(
    "text",
    [
        "-2e9",
        "0",
        "-0.0",
        "abc",
        "",
        "nan",
        "inf",
        "-inf",
        "1e999",
        "2 G",
        "1_000",
        "1,000",
        "0x10",
        "2BB",
    ],
)
def test_parse_count_refuses(text):
    with pytest.raises(UsageError) as caught:
        parse_count(text, "--tokens")
    assert str(caught.value) == (
        f"--tokens must be a positive number. Got {text!r}.\n  try: --tokens 2e9   (or 2B, 350M, 4096)"
    )


def test_parse_count_refuses_the_absurd():
    with pytest.raises(UsageError, match=r"--tokens must be at most 1e\+30\. Got '1e31'\."):
        parse_count("1e31", "--tokens")
    with pytest.raises(UsageError, match=r"--context must be at most 100\. Got '101'\."):
        parse_count("101", "--context", maximum=100)


@given(st.floats(min_value=1e-6, max_value=1e29))
def test_parse_count_reads_what_python_prints(value):
    assert parse_count(repr(value), "x") == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.5, "0.50"),
        (9.996, "10.0"),
        (812, "812"),
        (999, "999"),
        (999.7, "1.00 K"),
        (1000, "1.00 K"),
        (99_960, "100 K"),
        (999_499, "999 K"),
        (999_600, "1.00 M"),
        (124_439_808, "124 M"),
        (2.6e9, "2.60 B"),
        (3e15, "3000 T"),
    ],
)
def test_format_count(value, text):
    assert format_count(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 FLOP"), (12, "12 FLOP"), (3.1e15, "3.10 PFLOP"), (6e23, "600 ZFLOP")]
)
def test_format_flops(value, text):
    assert format_flops(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 B"), (12, "12 B"), (1_500_000, "1.50 MB"), (80e9, "80.0 GB")]
)
def test_format_bytes(value, text):
    assert format_bytes(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 s"),
        (0.0000594, "59.4 µs"),
        (0.0009994, "999 µs"),
        (0.0009996, "1 ms"),
        (0.0123, "12.3 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1 s"),
        (1.0, "1 s"),
        (59.4, "59.4 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (75, "1 min 15 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 00 min"),
        (7380, "2 h 03 min"),
        (172_760, "47 h 59 min"),
        (172_790, "2 days"),
        (3e6, "34.7 days"),
        (999.6 * 86_400, "1,000 days"),
    ],
)
def test_format_seconds(value, text):
    assert format_seconds(value) == text


def test_format_loss_keeps_four_decimals():
    assert format_loss(3.14159265) == "3.1416"


_SECONDS = {"µs": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600, "days": 86_400}


@given(st.floats(min_value=1e-6, max_value=1e10))
def test_format_seconds_means_what_was_given(value):
    words = format_seconds(value).split()
    parts = [
        float(number.replace(",", "")) * _SECONDS[unit]
        for number, unit in zip(words[::2], words[1::2], strict=True)
    ]
    assert sum(parts) == pytest.approx(value, rel=0.009)
    assert "e" not in words[0]


@given(st.floats(min_value=1, max_value=1e14))
def test_format_count_keeps_three_digits(value):
    text = format_count(value)
    digits, _, symbol = text.partition(" ")
    scale = {"": 1, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}[symbol]
    assert math.isclose(float(digits) * scale, value, rel_tol=0.0051)
