"""What the best classical method reaches."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from kleiber.runs import Baseline, BaselineResult
from kleiber.study.growing.document import Quantity

__all__ = ["best_baseline", "notes_of"]


def best_baseline(baseline: Baseline | None, quantity: Quantity) -> tuple[float, str] | None:
    """Return what the best classical method reaches of a measure of quality, and its name."""
    turned: Mapping[Quantity, tuple[str, Callable[[float], float]]] = {
        "loss": ("perplexity", math.log),
        "error_frac": ("accuracy", lambda value: 1 - value),
        "mean_absolute_error": ("mean_absolute_error", lambda value: value),
    }
    if baseline is None or quantity not in turned:
        return None
    name, turn = turned[quantity]
    results: Sequence[BaselineResult] = [one for one in baseline.results if name in one.val_metrics]
    reached = [(turn(one.val_metrics[name].value), one.method) for one in results]
    return min(reached, default=None)


def notes_of(baseline: Baseline | None, method: str) -> tuple[str, ...]:
    """Return what a reader should know of a classical method."""
    results = baseline.results if baseline else ()
    return tuple(note for one in results if one.method == method for note in one.notes)
