"""Which rows to keep: `loss < 4 and group == "rpj"`, read by Python's grammar and worked out by us, never by `eval`."""

from __future__ import annotations

import ast
import math
import operator
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from kleiber.errors import DataError, UsageError, nearest
from kleiber.units import parse_count

__all__ = ["Condition", "number_of"]

Value = float | str | bool | tuple["float | str", ...] | None
"""A number, a text, true or false, several to be `in`, or a cell that is empty."""

_MAX_LENGTH = 2000
_ORDER: dict[type, Callable[[float, float], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_ARITHMETIC: dict[type, Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_EXAMPLE = """--where 'loss < 4 and group == "rpj"'"""


class Condition:
    """A condition on the cells of a row.

    It knows names of columns (dots and all; anything but letters, digits and dots reads as `_`), numbers, quoted texts,
    `< <= > >= == !=`, `in (...)`, `and or not`, `+ - * /` and parentheses. A cell that holds no number equals no number;
    an empty one equals nothing.

    Args:
        text: The condition.

    Raises:
        UsageError: It does not parse, or holds something else; the sentence says where.

    Example:
        >>> cheap = Condition('tokens / params <= 20 and group in ("rpj", "c4")')
        >>> cheap({"tokens": "2e9", "params": "1e8", "group": "c4"}, "rows.csv line 2")
        True
    """

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            if len(text) > _MAX_LENGTH:
                raise UsageError(
                    f"--where takes up to {_MAX_LENGTH} characters.", got=len(text), hint=_EXAMPLE
                )
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # an escape that Python does not know is a mistake here
                self._root = ast.parse(text.strip(), mode="eval").body
        except SyntaxError as error:
            end = len(text.strip())
            place = min(error.offset - 1, end) if error.offset else end
            rest = text.strip()[place:] or "its end"
            raise UsageError(
                f"--where does not read as a condition at character {place + 1}, {rest!r}.",
                got=text,
                hint=_EXAMPLE,
            ) from None
        except (ValueError, MemoryError, RecursionError):
            raise UsageError("--where does not read as a condition.", got=text[:60], hint=_EXAMPLE) from None
        self._check(self._root)

    def __call__(self, cells: Mapping[str, str | None], where: str) -> bool:
        """Return whether a row is kept.

        Args:
            cells: By name, as text.
            where: File and line, for errors.

        Raises:
            UsageError: A name is no column.
            DataError: A text is put in order with a number, or something is divided by 0.
        """
        found = _Reading({_plain(name): cell for name, cell in cells.items()}, where, self).value(self._root)
        if not isinstance(found, bool):
            self.refuse(self._root, "is not true or false")
        return found

    def refuse(self, node: ast.AST, problem: str) -> NoReturn:
        """Say what a part of the condition is, and where it stands.

        Raises:
            UsageError: Always.
        """
        place = getattr(node, "col_offset", 0)
        part = ast.get_source_segment(self.text.strip(), node) or self.text
        end = "" if problem.endswith(("?", ".")) else "."
        raise UsageError(f"--where: {part!r} at character {place + 1} {problem}{end}", hint=_EXAMPLE)

    def _check(self, node: ast.AST) -> None:
        """Refuse all of Python but comparisons, whatever the rows hold."""
        for part in ast.walk(node):
            is_known = isinstance(
                part,
                ast.BoolOp | ast.And | ast.Or | ast.Not | ast.Compare | ast.Name | ast.Load | ast.Tuple | ast.List
                | ast.USub | ast.In | ast.NotIn | ast.Eq | ast.NotEq,
            ) or type(part) in {*_ORDER, *_ARITHMETIC}  # fmt: skip
            if isinstance(part, ast.BinOp):
                is_known = type(part.op) in _ARITHMETIC
            elif isinstance(part, ast.UnaryOp):
                is_known = isinstance(part.op, ast.Not | ast.USub)
            elif isinstance(part, ast.Constant):
                is_known = isinstance(part.value, int | float | str)
            elif isinstance(part, ast.Attribute):
                is_known = isinstance(part.value, ast.Name | ast.Attribute)
            if not is_known:
                self.refuse(part, "is not something that a condition may hold")


class _Reading:
    """One row being read."""

    def __init__(self, cells: Mapping[str, str | None], where: str, condition: Condition) -> None:
        self.cells, self.where, self.condition = cells, where, condition

    def value(self, node: ast.AST) -> Value:
        """Return what a part of the condition is on this row."""
        if isinstance(node, ast.Constant):
            return self._constant(node)
        if isinstance(node, ast.Name | ast.Attribute):
            return self._cell(node)
        if isinstance(node, ast.Tuple | ast.List):
            return tuple(self._scalar(one) for one in node.elts)
        if isinstance(node, ast.BinOp):
            return self._worked_out(node)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return _negative(self._number(node.operand))
        return self._said(node)

    def _said(self, node: ast.AST) -> bool:
        """Return whether a part holds that can only be true or false."""
        if isinstance(node, ast.BoolOp):
            parts = (self._truth(one) for one in node.values)
            return all(parts) if isinstance(node.op, ast.And) else any(parts)
        if isinstance(node, ast.UnaryOp):
            return not self._truth(node.operand)
        assert isinstance(node, ast.Compare)  # noqa: S101 - the check at the start left nothing else
        sides = [node.left, *node.comparators]
        return all(
            self._compare(op, left, right)
            for op, left, right in zip(node.ops, sides, sides[1:], strict=False)
        )

    def _constant(self, node: ast.Constant) -> Value:
        if isinstance(node.value, bool):
            return node.value
        try:
            return node.value if isinstance(node.value, str) else float(node.value)  # type: ignore[arg-type] # checked above
        except OverflowError:
            self.condition.refuse(node, "is too large")

    def _cell(self, node: ast.AST) -> Value:
        name = ast.unparse(node)
        if name not in self.cells:
            self.condition.refuse(node, f"is no column. {nearest(name, self.cells)}")
        return self.cells[name] or None

    def _scalar(self, node: ast.AST) -> float | str:
        found = self.value(node)
        if isinstance(found, bool | tuple) or found is None:
            self.condition.refuse(node, "is neither a number nor a text")
        return found

    def _truth(self, node: ast.AST) -> bool:
        found = self.value(node)
        if not isinstance(found, bool):
            self.condition.refuse(node, "is not true or false")
        return found

    def _number(self, node: ast.AST) -> float | None:
        """Return a number; None for an empty cell."""
        found = self.value(node)
        if found is None:
            return None
        number = found if isinstance(found, float) else number_of(found) if isinstance(found, str) else None
        if number is None:
            raise DataError(
                f"{self.where}: --where takes {ast.unparse(node)} for a number, which it is not.", got=found
            )
        return number

    def _worked_out(self, node: ast.BinOp) -> float | None:
        left, right = self._number(node.left), self._number(node.right)
        if left is None or right is None:
            return None
        try:
            return _ARITHMETIC[type(node.op)](left, right)
        except (ZeroDivisionError, OverflowError):
            raise DataError(
                f"{self.where}: --where cannot work out {ast.unparse(node)}.", got=(left, right)
            ) from None

    def _compare(self, op: ast.cmpop, left: ast.AST, right: ast.AST) -> bool:
        if isinstance(op, ast.In | ast.NotIn):
            several = self.value(right)
            if not isinstance(several, tuple):
                self.condition.refuse(right, "must be several values in parentheses")
            found = self.value(left)
            return any(_equal(found, one) for one in several) is isinstance(op, ast.In)
        if isinstance(op, ast.Eq | ast.NotEq):
            return _equal(self.value(left), self.value(right)) is isinstance(op, ast.Eq)
        first, second = self._number(left), self._number(right)
        return first is not None and second is not None and _ORDER[type(op)](first, second)


def _negative(number: float | None) -> float | None:
    return None if number is None else -number


def _equal(left: Value, right: Value) -> bool:
    """Numbers are equal as numbers, however they are written; all else as text."""
    if left is None or right is None:
        return False
    numbers = [number_of(one) if isinstance(one, str) else one for one in (left, right)]
    if all(isinstance(one, float) for one in numbers) and not all(
        isinstance(one, str) for one in (left, right)
    ):
        return numbers[0] == numbers[1]
    return left == right


def number_of(text: str) -> float | None:
    """Return the number that a cell holds, None when it holds none.

    Example:
        >>> number_of("2.6B"), number_of("-0.5"), number_of("rpj")
        (2600000000.0, -0.5, None)
    """
    try:
        return float(text)
    except ValueError:
        pass
    try:
        found: Any = parse_count(text, "")
    except UsageError:
        return None
    return float(found) if math.isfinite(found) else None


def _plain(name: str) -> str:
    """Return a name as it must be written in a condition.

    Example:
        >>> _plain("val loss (nats)"), _plain("train.learning_rate")
        ('val_loss__nats_', 'train.learning_rate')
    """
    plain = "".join(char if char.isalnum() or char in "._" else "_" for char in name)
    return f"_{plain}" if plain[:1].isdigit() else plain
