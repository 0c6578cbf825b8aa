"""Standard errors of the logarithm of a value: by its runs, its interval, or the bracket that it lies in."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

__all__ = ["log10_error", "log10_error_in", "log10_error_of", "student_95"]

_Z_95 = 1.959964


def log10_error(values: Sequence[float]) -> float:
    """Return the standard error of the mean of log10 of positive values, of two or more."""
    return statistics.stdev(math.log10(value) for value in values) / math.sqrt(len(values))


def log10_error_of(low: float, high: float) -> float | None:
    """Return the standard error of log10 of what has a normal 95% interval in logs; None where it reaches 0."""
    return math.log10(high / low) / (2 * _Z_95) if low > 0 else None


def log10_error_in(low: float, high: float) -> float | None:
    """Return the standard deviation of log10 of what lies anywhere in a bracket."""
    return math.log10(high / low) / math.sqrt(12) if low > 0 else None


def student_95(freedom: float) -> float:
    """Return how many standard errors a 95% interval reaches on each side."""
    from scipy.stats import t  # noqa: PLC0415 - SciPy is not for every command

    return float(t.ppf(0.975, freedom))
