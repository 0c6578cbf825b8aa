"""Texts as rows of tokens of one length, out of a file in which they stand one after the other.

Shapes: N texts, B of a batch, T tokens (`data.context`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kleiber.data.prepared import MappedSamples
from kleiber.data.tokenizer import END_OF_TEXT_ID
from kleiber.runs.data_shape import PAD_ID

__all__ = ["PaddedTexts"]


@dataclass(frozen=True)
class PaddedTexts:
    """Texts by role, each cut or padded to T tokens.

    `tokens` and `source` are the text's tokens, then padding. `target` is `END_OF_TEXT_ID`, which begins it, then the tokens, then
    `END_OF_TEXT_ID`, which ends it, then padding, which is the same number; a target that is cut has no end
    (`kleiber.data.targets` says what counts).
    """

    stored: MappedSamples
    """By role `r`: `r`, the tokens of all texts [num_tokens], each text followed by `END_OF_TEXT_ID`, and `r_ends`, where those
    stand [N]."""
    context: int
    """T"""

    @property
    def roles(self) -> tuple[str, ...]:
        """What goes in."""
        return tuple(name for name in self.stored.paths if not name.endswith("_ends"))

    def __len__(self) -> int:
        """Return N."""
        return len(self.stored.arrays[f"{self.roles[0]}_ends"])

    @property
    def num_tokens(self) -> dict[str, npt.NDArray[np.int64]]:
        """Tokens of each text before it is cut [N], by role."""
        arrays = self.stored.arrays
        return {role: np.diff(arrays[f"{role}_ends"], prepend=-1) - 1 for role in self.roles}

    def gather(self, indices: npt.NDArray[np.intp]) -> dict[str, npt.NDArray[Any]]:
        """Return the tokens [B, T] int64 of these texts, by role."""
        return {role: self._rows(role, np.asarray(indices)) for role in self.roles}

    def _rows(self, role: str, indices_B: npt.NDArray[np.intp]) -> npt.NDArray[np.int64]:
        tokens, ends = self.stored.arrays[role], self.stored.arrays[f"{role}_ends"]
        num_first = int(role == "target")
        starts_B = np.where(indices_B > 0, ends[indices_B - 1] + 1, 0)
        positions_BT = starts_B[:, None] + np.arange(self.context - num_first)
        is_own_BT = positions_BT < ends[indices_B][:, None]
        own_BT = np.where(is_own_BT, tokens[np.minimum(positions_BT, len(tokens) - 1)], PAD_ID)
        rows_BT = np.full((len(indices_B), self.context), END_OF_TEXT_ID, np.int64)
        rows_BT[:, num_first:] = own_BT
        return rows_BT
