"""Near-duplicates among short texts: reviews, messages, sentences.

Texts are compared word by word, case and punctuation left out; a Chinese, Japanese or Korean character is a word. Two texts are
near-duplicates when they share half of the five-word windows of the shorter one. Of a long text, the smallest hashes of windows
stand for all (Broder 1997, "On the resemblance and containment of documents").
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from kleiber.data.near_duplicates import group_near_duplicates
from kleiber.data.windows import windows_of

__all__ = ["TextGroups"]

MIN_SHARED_FRAC = 0.5

_MAX_HASHES = 16
_EAST_ASIAN = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uac00-\ud7af"
_WORD = re.compile(rf"[{_EAST_ASIAN}]|[^\W_{_EAST_ASIAN}]+")


@dataclass(frozen=True)
class TextGroups:
    """Sketches of texts, 128 bytes each at most.

    Example:
        >>> groups = TextGroups()
        >>> for text in ("Call me later, please!", "call me later please", "It rains."):
        ...     groups.add(text)
        >>> groups.numbers().tolist()
        [0, 0, 1]
    """

    sketches: list[npt.NDArray[np.uint64]] = field(default_factory=list)

    def add(self, text: str) -> None:
        """Take in the next text."""
        words = _WORD.findall(text.casefold()) or [text]
        # Windows are of lines: a word a line.
        self.sketches.append(np.unique(windows_of("\n".join(words)))[:_MAX_HASHES])

    def numbers(self) -> npt.NDArray[np.int64]:
        """Return a number for each text [N]: near-duplicates have the same."""
        # Copies first become one: a message that a hundred people sent would pass for boiler-plate, which joins nobody.
        first_of: dict[bytes, int] = {}
        own = np.array(
            [first_of.setdefault(sketch.tobytes(), len(first_of)) for sketch in self.sketches], np.int64
        )
        distinct: Sequence[npt.NDArray[np.uint64]] = [np.frombuffer(key, np.uint64) for key in first_of]
        number_of = np.empty(len(distinct), np.int64)
        for number, members in enumerate(group_near_duplicates(distinct, min_shared_frac=MIN_SHARED_FRAC)):
            number_of[members] = number
        return number_of[own]
