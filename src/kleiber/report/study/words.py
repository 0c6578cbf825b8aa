"""The study page's text: what every page says, and its own."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import yaml

from kleiber.report.words import Words, read_words

__all__ = ["read_study_words"]


@cache
def read_study_words(lang: str) -> Words:
    """Return the text of a language.

    Raises:
        UsageError: There is no such language.
    """
    known = read_words(lang)
    path = Path(__file__).parent / "strings" / f"{known.lang}.yaml"
    return Words(known.lang, known.texts | yaml.safe_load(path.read_text(encoding="utf-8")))
