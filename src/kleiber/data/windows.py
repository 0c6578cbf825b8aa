"""Five-line windows: by which texts are compared.

A window is five consecutive lines, stripped, blank ones left out; a text of fewer lines is one window.
Windows are compared by 64-bit hashes: among a million of them, the chance that any two collide is under 1e-7.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

__all__ = ["NUM_LINES", "Windows"]

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

    def without(self, text: str, known: npt.NDArray[np.uint64]) -> tuple[str, int]:
        """Return the text without the lines of known windows, and how many lines that cost.

        No window of what is left is known.

        Args:
            text: What to cut lines from.
            known: Hashes of windows, sorted.
        """
        hashes = self.of(text)
        places = np.searchsorted(known, hashes, side="right") - np.searchsorted(known, hashes)
        found = np.flatnonzero(places).tolist()
        if not found:
            return text, 0
        lines = text.split("\n")
        filled = [number for number, line in enumerate(lines) if line.strip()]
        cut = {number for start in found for number in filled[start : start + NUM_LINES]}
        left = "\n".join(line for number, line in enumerate(lines) if number not in cut)
        # Lines that were apart are neighbours now and make new windows.
        left, num_more = self.without(left, known)
        return left, len(cut) + num_more
