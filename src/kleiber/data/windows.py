"""Five-line windows: by which texts are compared.

A window is five consecutive lines, stripped, blank ones left out; a text of fewer lines is one window.
Windows are compared by 64-bit hashes: among a million of them, the chance that any two collide is under 1e-7.
"""

from __future__ import annotations

import functools
import hashlib

import numpy as np
import numpy.typing as npt

__all__ = ["NUM_LINES", "windows_of", "without_windows"]

NUM_LINES = 5

_MULTIPLIERS = np.random.Philox(key=0).random_raw(NUM_LINES) | np.uint64(1)
_NO_LINE = 0


def windows_of(text: str) -> npt.NDArray[np.uint64]:
    r"""Return the hashes of a text's windows in order [num_windows].

    Example:
        >>> len(windows_of("a b c d e f g".replace(" ", "\n")))
        3
        >>> bool(windows_of("a\n\n  b\n") == windows_of("a\nb"))
        True
    """
    numbers = [_number(line) for line in map(str.strip, text.split("\n")) if line]
    if not numbers:
        return np.empty(0, np.uint64)
    numbers += [_NO_LINE] * (NUM_LINES - len(numbers))
    return np.lib.stride_tricks.sliding_window_view(np.array(numbers, np.uint64), NUM_LINES) @ _MULTIPLIERS


def without_windows(text: str, known: npt.NDArray[np.uint64]) -> tuple[str, int]:
    """Return the text without the lines of known windows, and how many lines that cost.

    No window of what is left is known.

    Args:
        text: What to cut lines from.
        known: Hashes of windows, sorted.
    """
    hashes = windows_of(text)
    places = np.searchsorted(known, hashes, side="right") - np.searchsorted(known, hashes)
    found = np.flatnonzero(places).tolist()
    if not found:
        return text, 0
    lines = text.split("\n")
    filled = [number for number, line in enumerate(lines) if line.strip()]
    cut = {number for start in found for number in filled[start : start + NUM_LINES]}
    left = "\n".join(line for number, line in enumerate(lines) if number not in cut)
    # Lines that were apart are neighbours now and make new windows.
    left, num_more = without_windows(left, known)
    return left, len(cut) + num_more


@functools.lru_cache(maxsize=2**14)
def _number(line: str) -> int:
    """Return a number for a line: a hash, so that no text need be kept to tell its lines from others."""
    content = line.encode(errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")
