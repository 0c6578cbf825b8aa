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
class Frame:
    """Special tokens around a text, as a tokenizer that was trained here has them unless said otherwise."""

    prefix: tuple[int, ...] = ()
    """Before every text."""
    suffix: tuple[int, ...] = ()
    """After every text."""
    pad_id: int = PAD_ID
    end_id: int = END_OF_TEXT_ID
    """Ends a target where the suffix is empty."""

    def around(self, role: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return what stands before and after the tokens of a text in a role.

        Example:
            >>> Frame(prefix=(2,), suffix=(3,)).around("tokens"), Frame().around("target")
            (((2,), (3,)), ((0,), (0,)))
        """
        if role != "target":
            return self.prefix, self.suffix
        return (self.pad_id, *self.prefix), self.suffix or (self.end_id,)


@dataclass(frozen=True)
class PaddedTexts:
    """Texts by role, each cut or padded to T tokens.

    `tokens` and `source` are the text's tokens in their frame, then padding; where they are cut, the frame stays. `target` is
    padding, which begins it, then the framed tokens, which end in a token that says so, then padding; a target that is cut has no
    end (`kleiber.data.targets` says what counts).
    """

    stored: MappedSamples
    """By role `r`: `r`, the tokens of all texts [num_tokens], each text followed by one that separates it, and `r_ends`, where
    those stand [N]."""
    context: int
    """T"""
    frame: Frame = Frame()
    """What the tokenizer puts around texts."""

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

    def whole(self, role: str, index: int) -> npt.NDArray[np.int64]:
        """Return the tokens of one text before it is cut, without their frame."""
        tokens, ends = self.stored.arrays[role], self.stored.arrays[f"{role}_ends"]
        start = int(ends[index - 1]) + 1 if index else 0
        return np.asarray(tokens[start : int(ends[index])], np.int64)

    def gather(self, indices: npt.NDArray[np.intp]) -> dict[str, npt.NDArray[Any]]:
        """Return the tokens [B, T] int64 of these texts, by role."""
        return {role: self._rows(role, np.asarray(indices)) for role in self.roles}

    def _rows(self, role: str, indices_B: npt.NDArray[np.intp]) -> npt.NDArray[np.int64]:
        tokens, ends = self.stored.arrays[role], self.stored.arrays[f"{role}_ends"]
        before, after = self.frame.around(role)
        room = self.context - len(before) - (0 if role == "target" else len(after))
        starts_B = np.where(indices_B > 0, ends[indices_B - 1] + 1, 0)
        lengths_B = np.minimum(ends[indices_B] - starts_B, max(0, room))
        # As long as a cut target with its end; what is beyond the context is left out below.
        width = len(before) + max(0, room) + len(after)
        rows_BT = np.full((len(indices_B), width), self.frame.pad_id, np.int64)
        rows_BT[:, : len(before)] = before
        places_BT = np.arange(max(0, room))
        is_own_BT = places_BT < lengths_B[:, None]
        own_BT = tokens[np.minimum(starts_B[:, None] + places_BT, len(tokens) - 1)]
        rows_BT[:, len(before) : len(before) + max(0, room)][is_own_BT] = own_BT[is_own_BT]
        for index, token in enumerate(after):
            rows_BT[np.arange(len(rows_BT)), len(before) + lengths_B + index] = token
        return np.ascontiguousarray(rows_BT[:, : self.context])
