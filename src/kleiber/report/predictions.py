"""Predictions as a person looks them over: pictures in a grid, the rest in a table; wrong ones first."""

from __future__ import annotations

from dataclasses import dataclass

from kleiber.report.sources import RunView, Sources
from kleiber.report.tables import EMPTY, Cell, Table, format_frac, table_of
from kleiber.report.words import Words
from kleiber.runs import Shown

__all__ = ["Prediction", "PredictionGroup", "prediction_groups"]

_MAX_RUNS = 4
"""Runs whose predictions are shown: the target's, else the first ones'."""


@dataclass(frozen=True)
class Prediction:
    """A picture with what was expected and predicted."""

    image_png: str
    text: str
    expected: str
    predicted: str
    confidence: str
    tone: str
    """`good`, `bad` or none."""


@dataclass(frozen=True)
class PredictionGroup:
    """What one run predicts."""

    title: str
    pictures: list[Prediction]
    table: Table | None
    has_wrong: bool
    """Whether predictions are right or wrong, and not near or far."""


def prediction_groups(sources: Sources, words: Words) -> list[PredictionGroup]:
    """Return the predictions of the target, or else of the first runs that have any."""
    target = sources.target
    owners = [target] if target and target.predictions else [run for run in sources.runs if run.predictions]
    return [_group(run, words) for run in owners[:_MAX_RUNS]]


def _group(run: RunView, words: Words) -> PredictionGroup:
    shown = sorted(run.predictions, key=lambda one: one.is_right is not False)
    return PredictionGroup(
        title=words("predictions_title", run=run.record.run),
        pictures=[_picture(one) for one in shown if one.image_png],
        table=_table([one for one in shown if not one.image_png], words),
        has_wrong=any(one.is_right is not None for one in shown),
    )


def _picture(one: Shown) -> Prediction:
    return Prediction(
        image_png=one.image_png or "",
        text=one.text or "",
        expected=one.expected,
        predicted=one.predicted,
        confidence=_confidence(one),
        tone=_tone(one),
    )


def _table(shown: list[Shown], words: Words) -> Table | None:
    keys: tuple[str, ...] = ("sample", "expected", "predicted_value", "confidence")
    # Where nothing has a confidence, the column would be empty.
    keys = keys if any(one.confidence_frac is not None for one in shown) else keys[:-1]
    rows = (
        (one.text or EMPTY, one.expected, Cell(one.predicted, _tone(one)), _confidence(one))[: len(keys)]
        for one in shown
    )
    return table_of(words, keys, rows)


def _confidence(one: Shown) -> str:
    """Return the confidence; one that would round to certainty, as less than it."""
    if one.confidence_frac is None:
        return ""
    return ">99.9%" if 0.999 < one.confidence_frac < 1 else format_frac(one.confidence_frac)


def _tone(one: Shown) -> str:
    return {None: "", True: "good", False: "bad"}[one.is_right]
