"""Losses that are not nats a token: told by a column's name, or by a vocabulary that makes them impossible."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Literal

from kleiber.errors import DataError
from kleiber.runs import Row, is_above_guessing

__all__ = ["TableUnit", "check_possible", "check_unit_name"]

TableUnit = Literal["nats", "bits", "accuracy"]
"""What the loss column of a table holds; bits become nats."""

_BITS = re.compile(r"(^|[^a-z])(bits?|bpb|bpc|bpt|bpw)([^a-z]|$)")
_PER_BYTE = re.compile(r"(^|[^a-z])(bpb|bpc)([^a-z]|$)|per_(byte|char)")
_PERPLEXITY = re.compile(r"(^|[^a-z])(ppl|perplexity)([^a-z]|$)")


def check_unit_name(column: str, where: str, unit: TableUnit) -> None:
    """Refuse a column whose name says another unit.

    Bits a byte stay what they are when their unit is declared: exponents and optimum do not depend on a factor.

    Raises:
        DataError: It holds bits and is not declared to, or holds perplexities.

    Example:
        >>> check_unit_name("val_bits_per_token", "rows.csv line 2", "nats")
        Traceback (most recent call last):
        kleiber.errors.DataError: rows.csv line 2: column 'val_bits_per_token' is in bits by its name, and a law takes nats.
          try: --loss-unit bits
    """
    name = column.lower()
    if _PERPLEXITY.search(name) and unit != "accuracy":
        raise DataError(
            f"{where}: column {column!r} is a perplexity by its name, and a law takes its logarithm, the loss.",
            hint="add a column loss = ln(perplexity)",
        )
    if unit == "nats" and (_BITS.search(name) or _PER_BYTE.search(name)):
        raise DataError(
            f"{where}: column {column!r} is in bits by its name, and a law takes nats.",
            hint="--loss-unit bits",
        )


def check_possible(rows: Sequence[Row], vocab_sizes: Sequence[float | None]) -> None:
    """Refuse losses above ln V, that of guessing among V tokens: such a run diverged, or its loss is in bits.

    Without a vocabulary nothing in the numbers tells bits from nats: they differ by a factor, and a law of either fits.

    Raises:
        DataError: A row's loss is impossible.
    """
    known = [(row, size) for row, size in zip(rows, vocab_sizes, strict=True) if size]
    above = [(row, size) for row, size in known if is_above_guessing(row.loss, size)]
    if not above:
        return
    row, size = above[0]
    is_in_bits = len(above) > 1 and all(row.loss <= math.log2(size) for row, size in known)
    is_other = len(above) > 1 and len(above) == len(rows)  # what all of them show is the unit
    said = "all look like bits" if is_in_bits else "these are no nats a token" if is_other else "it diverged"
    raise DataError(
        f"run {row.run!r}: a loss of {row.loss:.4g} is above ln {size:g} = {math.log(size):.4g}, that of guessing "
        f"({len(above)} of {len(rows)} rows are): {said}.",
        hint="--loss-unit bits"
        if is_in_bits
        else "divide them by the tokens that they are summed over"
        if is_other
        else f"--where 'loss < {math.log(size):.4g}'",
    )
