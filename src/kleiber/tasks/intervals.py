"""95% intervals of measures, from how much each sample moves them."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from kleiber.runs import Estimate

__all__ = ["Z_95", "half_width", "mean_estimate", "ratio_estimate", "share_estimate", "wilson"]

Floats = npt.NDArray[np.float64]

Z_95 = 1.959963984540054
"""Standard deviations of the normal distribution's middle 95%, either side."""


def wilson(share: float, num: float) -> Estimate:
    """Return a share with Wilson's score interval, which stays within 0 and 1 and is never a point.

    Args:
        share: Successes over trials.
        num: Independent trials, > 0; not whole where they are an effective number.

    Source:
        Wilson 1927, JASA 22, 209-212.

    Example:
        >>> interval = wilson(0.9, 100)
        >>> round(interval.low, 4), round(interval.high, 4)
        (0.8256, 0.9448)
    """
    shrink = 1 / (1 + Z_95**2 / num)
    centre = shrink * (share + Z_95**2 / (2 * num))
    reach = shrink * Z_95 * math.sqrt(share * (1 - share) / num + Z_95**2 / (4 * num**2))
    # At 0 and at 1 the bound is the share itself, but for rounding.
    return Estimate(
        value=share, low=max(0.0, min(share, centre - reach)), high=min(1.0, max(share, centre + reach))
    )


def share_estimate(share: float, influences_N: Floats, *, num_at_bounds: float) -> Estimate:
    """Return a measure between 0 and 1 with an interval from its samples' influences.

    Their squares add up to the measure's variance (the delta method); Wilson's interval is taken at the number of
    trials that would have the same. Where nothing varies, as of a perfect score, that number is `num_at_bounds`.

    Args:
        share: The measure.
        influences_N: How much each sample moves it from where the others have it.
        num_at_bounds: Trials that a perfect score counts as.

    Source:
        Korn and Graubard 1998, Survey Methodology 24, 193-201: intervals at the effective sample size.
    """
    variance = float(np.square(influences_N).sum())
    is_measured = variance > 1e-12 * share * (1 - share) > 0
    return wilson(share, share * (1 - share) / variance if is_measured else num_at_bounds)


def half_width(values_N: Floats) -> float:
    """Return half of the interval of the mean; nan of a single value.

    Example:
        >>> round(half_width(np.array([1.0, 3.0])), 4)
        1.96
    """
    if len(values_N) < 2:
        return math.nan
    return Z_95 * float(values_N.std(ddof=1)) / math.sqrt(len(values_N))


def mean_estimate(values_N: Floats) -> Estimate:
    """Return the mean of values with its interval; of a single value, that value alone."""
    mean, reach = float(values_N.mean()), half_width(values_N)
    reach = 0.0 if math.isnan(reach) else reach
    return Estimate(value=mean, low=mean - reach, high=mean + reach)


def ratio_estimate(tops_N: Floats, bottoms_N: Floats) -> tuple[float, float]:
    """Return the sum of `tops_N` over that of `bottoms_N`, and half of its interval; nan of a single sample.

    Source:
        Cochran 1977, Sampling Techniques, eq. 6.13.

    Example:
        >>> ratio_estimate(np.array([2.0, 4.0]), np.array([1.0, 2.0]))
        (2.0, 0.0)
    """
    num, total = len(tops_N), float(bottoms_N.sum())
    ratio = float(tops_N.sum()) / total
    if num < 2:
        return ratio, math.nan
    squares = float(np.square(tops_N - ratio * bottoms_N).sum())
    return ratio, Z_95 * math.sqrt(squares * num / (num - 1)) / total
