"""Five-line windows: by which texts are compared.

A window is five consecutive lines, stripped, blank ones left out; a text of fewer lines is one window.
Windows are compared by 64-bit hashes: among a million of them, the chance that any two collide is under 1e-7.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

__all__ = ["NUM_LINES", "Windows", "overlap_frac"]

NUM_LINES = 5

_MULTIPLIERS = np.random.Philox(key=0).random_raw(NUM_LINES) | np.uint64(1)
_NO_LINE = -1


@dataclass(frozen=True)
class Windows:
    """Hashes the windows of texts; only hashes of one instance compare."""

    line_numbers: dict[str, int] = field(default_factory=dict)
    """A number for every distinct line seen: summed with odd multipliers they make a window's hash."""

    def of(self, text: str) -> npt.NDArray[np.uint64]:
        r"""Return the hashes of a text's windows in order [num_windows].

        Example:
            >>> windows = Windows()
            >>> len(windows.of("a b c d e f g".replace(" ", "\n")))
            3
            >>> bool(windows.of("a\n\n  b\n") == windows.of("a\nb"))
            True
        """
        numbers = [self._number(line) for line in map(str.strip, text.split("\n")) if line]
        if not numbers:
            return np.empty(0, np.uint64)
        numbers += [_NO_LINE] * (NUM_LINES - len(numbers))
        lines = np.array(numbers, np.int64).astype(np.uint64)
        return np.lib.stride_tricks.sliding_window_view(lines, NUM_LINES) @ _MULTIPLIERS

    def _number(self, line: str) -> int:
        return self.line_numbers.setdefault(line, len(self.line_numbers))

    def without(self, text: str, hashes: npt.NDArray[np.uint64]) -> tuple[str, int]:
        """Return the text without the lines of the windows in `hashes`, and how many lines that cost."""
        found = np.flatnonzero(np.isin(self.of(text), hashes)).tolist()
        if not found:
            return text, 0
        lines = text.split("\n")
        filled = [number for number, line in enumerate(lines) if line.strip()]
        cut = {filled[i] for start in found for i in range(start, min(start + NUM_LINES, len(filled)))}
        return "\n".join(line for number, line in enumerate(lines) if number not in cut), len(cut)


def overlap_frac(texts: Iterable[str], others: Iterable[str]) -> float:
    """Return the fraction of the windows of `texts` that occur in `others`.

    Example:
        >>> overlap_frac(["a", "b"], ["b", "c"])
        0.5
    """
    windows = Windows()
    known = np.unique(np.concatenate([np.empty(0, np.uint64), *map(windows.of, others)]))
    found = [np.isin(windows.of(text), known) for text in texts]
    return float(np.concatenate(found).mean()) if found else 0.0
