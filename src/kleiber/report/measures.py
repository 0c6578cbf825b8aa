"""Measures of models as people write them."""

from __future__ import annotations

import re
from collections.abc import Callable

from kleiber.report.sources import Sources
from kleiber.report.tables import EMPTY
from kleiber.report.words import Words
from kleiber.runs import Estimate

__all__ = ["format_estimate", "format_measure", "main_measures", "measure_name", "method_name"]

_FRACTIONS = (
    "accuracy",
    "image_to_text_recall_at_1",
    "image_to_text_recall_at_5",
    "text_to_image_recall_at_1",
    "text_to_image_recall_at_5",
)
_FORMATS: dict[str, Callable[[float], str]] = {
    **dict.fromkeys(_FRACTIONS, "{:.2%}".format),
    **dict.fromkeys(("macro_f1", "r2", "bits_per_byte"), "{:.3f}".format),
    "auc": "{:.4f}".format,
    "bleu": "{:.1f}".format,
}
"""By measure; of the others four digits."""


def measure_name(key: str, words: Words) -> str:
    """Return what a measure is called; one that has no name here, by its key."""
    is_named = f"measure_{key}" in words.texts
    return words(f"measure_{key}") if is_named else key.replace("_", " ")


def method_name(title: str, words: Words) -> str:
    """Return what a classical method is called; one that has no name here, by its own title.

    Example:
        >>> from kleiber.report.words import read_words
        >>> method_name("linear model", read_words("zh")), method_name("oracle", read_words("zh"))
        ('线性模型', 'oracle')
    """
    key = re.sub(r"\W+", "_", title)
    is_named = f"baseline_{key}" in words.texts
    return words(f"baseline_{key}") if is_named else title


def format_measure(key: str, value: float) -> str:
    """Return a measure as people write it.

    Example:
        >>> format_measure("accuracy", 0.9713), format_measure("perplexity", 12.34567)
        ('97.13%', '12.35')
    """
    return _FORMATS.get(key, "{:.4g}".format)(value).replace("-", "−")


def format_estimate(key: str, estimate: Estimate | None) -> str:
    """Return a measure with its interval.

    Example:
        >>> format_estimate("auc", Estimate(value=0.91, low=0.88, high=0.93))
        '0.9100 [0.8800, 0.9300]'
    """
    if estimate is None:
        return EMPTY
    value, low, high = (format_measure(key, bound) for bound in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def main_measures(sources: Sources) -> list[str]:
    """Return the measure by which each task is judged, of the tasks that runs have finished."""
    results = (run.record.result for run in sources.runs)
    return list(dict.fromkeys(next(iter(one.val_metrics)) for one in results if one and one.val_metrics))
