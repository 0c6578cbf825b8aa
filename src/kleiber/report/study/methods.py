"""Classical methods and their notes, in the language of the page: documents name them in English."""

from __future__ import annotations

import re
from collections.abc import Mapping

from kleiber.report.words import Words

__all__ = ["method_text", "note_text"]

_METHODS: Mapping[str, str] = {
    r"linear model": "linear",
    r"gradient-boosted trees": "boosting",
    r"(?P<order>\d+)-gram with Kneser-Ney back-off": "ngram",
    r"target of the nearest training source": "nearest",
    r"ridge regression from pixels to the caption's tokens": "ridge",
}
_NOTES: Mapping[str, str] = {
    r"It learnt from (?P<part>[\d,]+) of (?P<whole>[\d,]+) samples\.": "learnt",
    r"It read (?P<part>[\d,]+) of (?P<whole>[\d,]+) training tokens\.": "read",
    r"It was stopped before it converged\.": "stopped",
}


def method_text(method: str, words: Words) -> str:
    """Return a method's name; one that the page does not know as it is.

    Example:
        >>> from kleiber.report.study.words import read_study_words
        >>> method_text("gradient-boosted trees", read_study_words("zh"))
        '梯度提升树'
    """
    for pattern, key in _METHODS.items():
        if found := re.fullmatch(pattern, method):
            return words(f"method_{key}", **found.groupdict())
    return method


def note_text(note: str, words: Words) -> str:
    """Return a note of a method; one that the page does not know as it is."""
    for pattern, key in _NOTES.items():
        if found := re.fullmatch(pattern, note):
            return words(f"note_{key}", **found.groupdict())
    return note
