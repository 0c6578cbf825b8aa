"""Numbers in the cells of tables."""

from __future__ import annotations

import math
from collections.abc import Callable

from kleiber.errors import DataError

__all__ = ["MAX_NUMBER", "as_number", "parse_number"]

MAX_NUMBER = 3.4e38
"""Beyond it, float32 has only infinity."""


def parse_number(cell: object, *, has_types: bool) -> float | None:
    """Return the number in a cell; None where there is none.

    Args:
        cell: Truth values are 0 and 1.
        has_types: Whether a text is a text even if it spells a number.

    Example:
        >>> parse_number("1e3", has_types=False), parse_number("1e3", has_types=True), parse_number(True, has_types=True)
        (1000.0, None, 1.0)
    """
    if isinstance(cell, str):
        if has_types or "_" in cell:  # Python reads 1_000, and tables do not
            return None
        try:
            return float(cell)
        except ValueError:
            return None
    return float(cell) if isinstance(cell, bool | int | float) else None


def as_number(cell: object, column: str, place: Callable[[], str]) -> float:
    """Return the number in a cell of a column to predict.

    Args:
        cell: What stands there.
        column: Its name, for the error.
        place: Says where the cell stands.

    Raises:
        DataError: It is no number, or one that float32 does not hold.

    Example:
        >>> as_number("2.5", "price", lambda: "line 2 of a.csv")
        2.5
    """
    number = parse_number(cell, has_types=False)
    if number is None:
        raise DataError(
            f"column {column!r} must hold numbers, and it does not at {place()}.",
            got=cell,
            hint="--set task.name=classification   if these are classes, or data.target=COLUMN",
        )
    if not math.isfinite(number) or abs(number) > MAX_NUMBER:
        raise DataError(
            f"column {column!r} holds a number that is not finite in float32 at {place()}.",
            got=cell,
            hint="mend the cell: empty, it is a missing one",
        )
    return number
