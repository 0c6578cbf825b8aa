"""Which tokens each row of a cache holds, so that none is read twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from kleiber.infer.batching.row_stepper import RowStepper

__all__ = ["KnownRows"]

_LEAST_SHARED = 16
"""Tokens of a common beginning that are worth a copy."""


@dataclass
class _Row:
    tokens: list[int] = field(default_factory=list)
    """Those that it holds keys and values of."""
    used: int = 0
    """When it was last begun or let go, in turns."""


class KnownRows:
    """Rows of a stepper: those below `num_taken` are written to, the others are free and still hold what they last held.

    Args:
        stepper: Of an engine.
        num_rows: Texts that it has room for.
    """

    def __init__(self, stepper: RowStepper, num_rows: int) -> None:
        self._stepper = stepper
        self._rows = [_Row() for _ in range(num_rows)]
        self._turn = 0

    def tokens(self, row: int) -> list[int]:
        """Return the tokens that a row holds; whoever reads more adds them."""
        return self._rows[row].tokens

    def num_held(self, num_rows: int) -> int:
        """Return how many tokens the first rows hold together."""
        return sum(len(row.tokens) for row in self._rows[:num_rows])

    def begin(self, prompt: Sequence[int], num_taken: int) -> int:
        """Return a free row that holds as much of a prompt's beginning as any row does, and nothing else.

        Never all of it: the logits after the last token are wanted.

        Args:
            prompt: Its tokens.
            num_taken: So many first rows are not free.
        """
        most = len(prompt) - 1
        shared = [_num_shared(row.tokens[:most], prompt) for row in self._rows]
        free = range(num_taken, len(self._rows))
        source = max(range(len(shared)), key=shared.__getitem__)
        for row in free:
            if shared[row] and shared[row] == shared[source] == len(self._rows[row].tokens):
                return self._touched(row)
        target = min(free, key=lambda row: self._rows[row].used)
        num = shared[source] if shared[source] >= _LEAST_SHARED else 0
        if num and source != target:
            self._stepper.copy(source, target, num)
        self._rows[target].tokens = list(prompt[:num])
        return self._touched(target)

    def swap(self, row: int, other: int) -> None:
        """Let two rows change places."""
        if row == other:
            return
        one, two = self._rows[row], self._rows[other]
        self._stepper.swap(row, other, max(len(one.tokens), len(two.tokens)))
        self._rows[row], self._rows[other] = two, one

    def forget(self) -> None:
        """Let no row hold anything."""
        self._stepper.clear()
        for row in self._rows:
            row.tokens = []

    def _touched(self, row: int) -> int:
        self._turn += 1
        self._rows[row].used = self._turn
        return row


def _num_shared(tokens: Sequence[int], others: Sequence[int]) -> int:
    """Return how many first tokens are the same.

    Example:
        >>> _num_shared([1, 2, 3], [1, 2, 4, 5]), _num_shared([1, 2], [1, 2, 3])
        (2, 2)
    """
    pairs = zip(tokens, others, strict=False)
    length = min(len(tokens), len(others))
    return next((at for at, (one, other) in enumerate(pairs) if one != other), length)
