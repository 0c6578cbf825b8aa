"""What classical methods reach on a run's data: the first thing a reader asks of a network."""

from __future__ import annotations

from pydantic import Field

from kleiber.runs.document import Document
from kleiber.runs.record import Estimate

__all__ = ["Baseline", "BaselineResult"]


class BaselineResult(Document):
    """Of one method."""

    method: str
    """In words, with what it was given."""
    time_s: float
    """To fit it."""
    val_metrics: dict[str, Estimate] = Field(default_factory=dict)
    """By name, as in a run's result."""
    test_metrics: dict[str, Estimate] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    """What a reader should know, a sentence each."""


class Baseline(Document):
    """Of one run's data."""

    eval_hash: str
    """Of the evaluation set: measures compare only within one."""
    results: tuple[BaselineResult, ...]
