"""What is asked of each row of a table, and which split the row belongs to.

Shapes: N rows of all splits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kleiber.data.data import Split

__all__ = ["SPLIT_NUMBERS", "Answers"]

SPLIT_NUMBERS: dict[Split, int] = {"train": 0, "val": 1, "test": 2}
_LEFT_OUT = 3


@dataclass(frozen=True)
class Answers:
    """One entry a row, of all splits."""

    splits: npt.NDArray[np.int8]
    """`SPLIT_NUMBERS` [N]; another number is a row that is left out."""
    labels: npt.NDArray[np.int64] | None = None
    """[N]"""
    values: npt.NDArray[np.float32] | None = None
    """[N, 1]"""
    classes: tuple[str, ...] = ()
    num_bad: int = 0
    """Rows that do not parse or have no answer, left out as asked."""

    def without(self, rows: npt.NDArray[np.bool_]) -> Answers:
        """Return the answers with these rows [N] left out as bad ones."""
        num = int(np.count_nonzero(rows & (self.splits != _LEFT_OUT)))
        splits = np.where(rows, np.int8(_LEFT_OUT), self.splits)
        return Answers(splits, self.labels, self.values, self.classes, self.num_bad + num)

    def at(self, rows: npt.NDArray[np.intp]) -> Answers:
        """Return the answers of these rows alone."""
        return Answers(
            self.splits[rows],
            None if self.labels is None else self.labels[rows],
            None if self.values is None else self.values[rows],
            self.classes,
            self.num_bad,
        )
