"""The page's text: one file a language, looked up by key."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import yaml

from kleiber.errors import UsageError
from kleiber.scaling.law import LossUnit

__all__ = ["LANGUAGES", "Language", "Words", "read_words"]

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = get_args(Language)


@dataclass(frozen=True)
class Words:
    """The text of one language."""

    lang: Language
    texts: dict[str, str]

    def __call__(self, key: str, **values: object) -> str:
        """Return the text of `key` with `{name}` replaced by the values.

        Example:
            >>> read_words("en")("num_runs", count=3)
            '3 runs'
        """
        return self.texts[key].format(**values)

    def counting(self, unit: Literal["token", "sample"]) -> Words:
        """Return the text of a study that counts what is learnt from by `unit`; where none is known, the usual one.

        Example:
            >>> read_words("en").counting("sample")("tokens_axis")
            'training samples'
        """
        return self._with(f"_of_{unit}s")

    def measuring(self, unit: LossUnit) -> Words:
        """Return the text about a law of losses or of accuracies.

        Example:
            >>> read_words("en").measuring("accuracy")("figure_forecast")
            'Forecast accuracy'
        """
        return self._with("_of_accuracies") if unit == "accuracy" else self

    def _with(self, suffix: str) -> Words:
        own = {key.removesuffix(suffix): text for key, text in self.texts.items() if key.endswith(suffix)}
        return Words(self.lang, self.texts | own)


@cache
def read_words(lang: str) -> Words:
    """Return the text of a language.

    Raises:
        UsageError: There is no such language.
    """
    known = next((name for name in LANGUAGES if name == lang), None)
    if known is None:
        raise UsageError(
            f"--lang must be one of {', '.join(LANGUAGES)}.",
            got=lang,
            hint="kleiber report runs/demo --lang zh",
        )
    path = Path(__file__).parent / "strings" / f"{known}.yaml"
    return Words(known, yaml.safe_load(path.read_text(encoding="utf-8")))
