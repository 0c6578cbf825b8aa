"""Texts that look like neither prose nor code.

Each rule asks only what it can tell of a text of that length and script, so that a short sentence, a Chinese poem and a module of
code pass.

Source:
    Rae et al. 2021 (Gopher), arXiv:2112.11446, appendix A.1.1 and table A1: repeated lines, repeated n-grams, symbols.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

__all__ = ["FAULTS", "fault_of"]

MIN_LETTERS_FRAC = 0.4
"""Of the characters that are not space, at least so many are letters."""
MAX_BROKEN_FRAC = 0.01
"""Control characters, and marks of characters that could not be decoded."""
MAX_ELLIPSES_FRAC = 0.3
"""Of lines that end in an ellipsis (Gopher)."""
MAX_REPEATED_FRAC = 0.3
"""Of characters in lines that stand elsewhere in the text too; Gopher's 0.2 would refuse modules of code."""
MAX_NGRAM_FRACS = {2: 0.20, 3: 0.18, 4: 0.16}
"""Of characters in the most frequent run of so many words (Gopher)."""

_MIN_LINES = 5
_MIN_WORDS = 50

_BROKEN = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ufffd]")


def _has_no_words(text: str) -> bool:
    characters = [character for character in text if not character.isspace()]
    return sum(map(str.isalpha, characters)) < MIN_LETTERS_FRAC * max(1, len(characters))


def _is_broken(text: str) -> bool:
    return len(_BROKEN.findall(text)) > MAX_BROKEN_FRAC * len(text)


def _trails_off(text: str) -> bool:
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    num = sum(line.endswith(("...", "…")) for line in lines)
    return len(lines) >= _MIN_LINES and num > MAX_ELLIPSES_FRAC * len(lines)


def _repeats_lines(text: str) -> bool:
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    num_chars = sum(map(len, lines))
    repeated = sum((count - 1) * len(line) for line, count in Counter(lines).items())
    return len(lines) >= _MIN_LINES and repeated > MAX_REPEATED_FRAC * num_chars


def _repeats_words(text: str) -> bool:
    words = text.split()
    if len(words) < _MIN_WORDS:
        return False
    num_chars = sum(map(len, words))
    for length, frac in MAX_NGRAM_FRACS.items():
        runs = Counter(zip(*(words[start:] for start in range(length)), strict=False))
        run, count = max(runs.items(), key=lambda item: item[1] * sum(map(len, item[0])))
        if count > 1 and count * sum(map(len, run)) > frac * num_chars:
            return True
    return False


FAULTS: dict[str, Callable[[str], bool]] = {
    "has hardly any words": _has_no_words,
    "has broken characters": _is_broken,
    "trails off in dots": _trails_off,
    "repeats its lines": _repeats_lines,
    "repeats its words": _repeats_words,
}
"""What can be wrong with a text, and how to tell."""


def fault_of(text: str) -> str | None:
    r"""Return the first fault of a text; None of one that looks like prose or code.

    Example:
        >>> fault_of("It was the best of times."), fault_of("=====|----|====="), fault_of("def f(x):\n    return 2 * x")
        (None, 'has hardly any words', None)
    """
    return next((fault for fault, has in FAULTS.items() if has(text)), None)
