"""How a quantity goes with N: a power law by least squares in logs, with the interval that its own scatter allows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from kleiber.runs import Document, Estimate
from kleiber.study.growing.design import Line
from kleiber.study.growing.uncertainty import student_95

__all__ = ["Contrast", "Kind", "Trend", "contrast", "fit_trend", "kind_of", "sd_estimate", "share_estimate"]

Kind: TypeAlias = Literal["power", "per_decade"]

_MIN_SIZES = 3
_EXACT_SE = 1e-9
"""A counted quantity lies on its line: its interval is no wider than this."""
_SIZES_THAT_BEND = 5
"""A parabola through fewer says nothing of a bend."""
_WIDEST_FACTOR = 30.0
"""Between the ends of what ten times the parameters do: wider says nothing."""


class Trend(Document):
    """A line through one value of each size.

    `power`: value = level x N^slope. `per_decade`: value = level + slope x log10 N, of a quantity that may be zero or negative.
    """

    line: Line
    kind: Kind
    slope: Estimate
    """The exponent, or the change with ten times the parameters; with its 95% interval."""
    standard_error: float
    level: float
    """log10 of it for `power`."""
    scatter: float
    """Standard deviation about the line: of log10 of the value, or of the value."""
    num_sizes: int
    low_params: float
    high_params: float
    upper_exponent: Estimate | None = None
    """Slope over the larger half of the sizes where the line bends: where the interval of a quadratic term leaves zero out."""
    upper_level: float | None = None
    """Of that line."""
    upper_low_params: float | None = None
    """Where it begins."""
    is_empty: bool = False
    """Whether nothing follows: ten times the parameters do anything within a factor above 30."""

    @property
    def decades(self) -> float:
        """That N spans."""
        return math.log10(self.high_params / self.low_params)

    @property
    def has_trend(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.slope.low > 0 or self.slope.high < 0

    def at(self, num_params: float) -> float:
        """Return the straight line's value at N."""
        straight = self.level + self.slope.value * math.log10(num_params)
        return 10**straight if self.kind == "power" else straight

    @property
    def upper(self) -> Trend | None:
        """The line over the larger half of the sizes of one that bends, where its interval leaves zero out."""
        if self.upper_exponent is None or self.upper_level is None or self.upper_low_params is None:
            return None
        line = self.model_copy(
            update={
                "slope": self.upper_exponent,
                "level": self.upper_level,
                "low_params": self.upper_low_params,
                "upper_exponent": None,
            }
        )
        return line if line.has_trend else None

    @property
    def leading(self) -> Trend:
        """What a reader is told first: the line over the larger half where there is one, else this."""
        return self.upper or self

    def tenfold(self) -> Estimate:
        """Return what ten times the parameters do: the factor of a power law, the change of a line, with its 95% interval."""
        if self.kind == "per_decade":
            return self.slope
        value, low, high = (_power(one) for one in (self.slope.value, self.slope.low, self.slope.high))
        return Estimate(value=value, low=low, high=high)


class Contrast(Document):
    """Whether depth alone and width alone differ."""

    difference: Estimate
    """Slope by depth less slope by width, with its 95% interval."""

    @property
    def differs(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.difference.low > 0 or self.difference.high < 0


def _power(exponent: float) -> float:
    return 10 ** min(300.0, max(-300.0, exponent))


def fit_trend(
    line: Line,
    num_params: Sequence[float],
    values: Sequence[float],
    errors: Sequence[float | None] = (),
    *,
    kind: Kind | None = None,
) -> Trend | None:
    """Return the line through one value of each size; None of fewer than three sizes.

    The interval is that of ordinary least
    squares with Student's t on n - 2 degrees of freedom: it counts every scatter about the line, that of seeds and of shapes. It is
    never narrower than what the values' own standard errors allow: rates found in one and the same bracket scatter by nothing.

    Args:
        line: How the models grow.
        num_params: Distinct N.
        values: At each.
        errors: Standard error of each, of log10 of it for a power law; None where one number is all there is.
        kind: None is a power law where all values are positive, else a straight line against log10 N.

    Example:
        >>> fitted = fit_trend("both", [1e3, 1e4, 1e5], [2.0, 20.0, 200.0])
        >>> round(fitted.slope.value, 6), fitted.kind, fitted.num_sizes
        (1.0, 'power', 3)
    """
    n = len(values)
    if n < _MIN_SIZES or len(set(num_params)) < _MIN_SIZES:
        return None
    kind = kind or kind_of(values)
    x = np.log10(np.array(num_params, dtype=np.float64))
    y = np.array(values, dtype=np.float64)
    y = np.log10(y) if kind == "power" else y
    centred = x - x.mean()
    slope = float(centred @ y / (centred @ centred))
    level = float(y.mean() - slope * x.mean())
    residual = y - level - slope * x
    scatter = math.sqrt(float(residual @ residual) / (n - 2))
    own = np.array([error or 0.0 for error in errors] or [0.0] * n, dtype=np.float64)
    of_values = math.sqrt(float(centred**2 @ own**2)) / float(centred @ centred)
    error = max(scatter / math.sqrt(float(centred @ centred)), of_values, _EXACT_SE)
    half = student_95(n - 2) * error
    estimate = Estimate(value=slope, low=slope - half, high=slope + half)
    is_wide = kind == "power" and 2 * half > math.log10(_WIDEST_FACTOR)
    part = None
    if n >= _SIZES_THAT_BEND and _bends(x, y, own):
        larger = np.argsort(x)[-max(_MIN_SIZES, (n + 1) // 2) :]
        part = fit_trend(
            line,
            [num_params[k] for k in larger],
            [values[k] for k in larger],
            own[larger].tolist(),
            kind=kind,
        )
    return Trend(
        line=line,
        kind=kind,
        slope=estimate,
        standard_error=error,
        level=level,
        scatter=scatter,
        num_sizes=n,
        low_params=min(num_params),
        high_params=max(num_params),
        upper_exponent=part.slope if part else None,
        upper_level=part.level if part else None,
        upper_low_params=part.low_params if part else None,
        is_empty=is_wide,
    )


def kind_of(values: Sequence[float]) -> Kind:
    """Return what one quantity is fitted by: a power law where all its values are positive."""
    return "power" if min(values) > 0 else "per_decade"


def _bends(x: NDArray[np.float64], y: NDArray[np.float64], own: NDArray[np.float64]) -> bool:
    """Return whether the 95% interval of a quadratic term leaves zero out, by scatter and by the values' own errors."""
    X = np.vander(x - x.mean(), 3)
    inverse = np.linalg.pinv(X)
    coefficients = inverse @ y
    residual = y - X @ coefficients
    freedom = len(y) - 3
    scatter = math.sqrt(float(residual @ residual) / freedom)
    error = max(
        scatter * float(np.linalg.norm(inverse[0])), float(np.linalg.norm(inverse[0] * own)), _EXACT_SE
    )
    return bool(abs(coefficients[0]) > student_95(freedom) * error)


def contrast(depth: Trend | None, width: Trend | None) -> Contrast | None:
    """Return the difference of two trends of one kind; None where there are no two.

    Welch's interval: each line has a scatter of its own.

    Source:
        Welch 1947, "The generalization of Student's problem when several different population variances are involved".
    """
    if depth is None or width is None or depth.kind != width.kind:
        return None
    variances = depth.standard_error**2, width.standard_error**2
    freedom = sum(variances) ** 2 / sum(
        variance**2 / (one.num_sizes - 2) for variance, one in zip(variances, (depth, width), strict=True)
    )
    half = student_95(freedom) * math.sqrt(sum(variances))
    value = depth.slope.value - width.slope.value
    return Contrast(difference=Estimate(value=value, low=value - half, high=value + half))


def sd_estimate(values: Sequence[float]) -> Estimate:
    """Return the standard deviation of a few normal values with its 95% interval.

    Example:
        >>> found = sd_estimate([1.0, 2.0, 3.0])
        >>> found.value, round(found.low, 3), round(found.high, 2)
        (1.0, 0.521, 6.28)
    """
    from scipy.stats import chi2  # noqa: PLC0415 - SciPy is not for every command

    freedom = len(values) - 1
    sd = float(np.std(values, ddof=1))
    low, high = (math.sqrt(freedom / float(chi2.ppf(part, freedom))) for part in (0.975, 0.025))
    return Estimate(value=sd, low=sd * low, high=sd * high)


def share_estimate(count: int, total: int) -> Estimate:
    """Return a rate of rare events with its exact 95% Poisson interval.

    Example:
        >>> found = share_estimate(0, 300)
        >>> found.value, found.low, round(found.high, 4)
        (0.0, 0.0, 0.0123)
    """
    from scipy.stats import chi2  # noqa: PLC0415 - SciPy is not for every command

    low = float(chi2.ppf(0.025, 2 * count)) / 2 / total if count else 0.0
    return Estimate(value=count / total, low=low, high=float(chi2.ppf(0.975, 2 * count + 2)) / 2 / total)
