"""What a search for rates has tried and found."""

from __future__ import annotations

from typing import Literal

from kleiber.runs import Document, ModelRecipe

__all__ = ["BestRates", "Tuning", "TuningTrial"]


class TuningTrial(Document):
    """One training of the small model, or several that differ in their seed alone."""

    num_steps: int
    lr: float
    matrix_lr: float
    loss: float | None
    """Mean validation loss over the seeds; None where one diverged."""


class BestRates(Document):
    """The rates with the least loss at one horizon."""

    num_steps: int
    num_tokens: int
    lr: float
    matrix_lr: float
    loss: float
    """Least that was measured; the rates may stand between those of the trials."""
    is_bracketed: bool
    """Whether lower and higher rates were worse."""


class Tuning(Document):
    """Rates tuned on a small model, and how they carry over."""

    proxy: ModelRecipe
    """The small model."""
    num_params: int
    """Of it, in all."""
    trials: tuple[TuningTrial, ...]
    best: tuple[BestRates, ...]
    """By horizon, shortest first; the rates of the first are those of the design that was written."""
    rule: Literal["standard", "mup_simple", "completep"]
    token_exponent: float
    """Rates fall with the tokens to this power."""
    is_exponent_fitted: bool
    """Whether it comes from these horizons; otherwise it is the published one."""
    train_flops: float
    """Of all trials [FLOP]."""
    notes: tuple[str, ...]
    """What a person should know of the result, a sentence each."""
    created_at: str
    """UTC, ISO 8601."""
