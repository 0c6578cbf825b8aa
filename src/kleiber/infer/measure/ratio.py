"""Medians, other quantiles and ratios of medians, with 95% intervals from resampled rounds.

Legend: R rounds, N times of a round, S resamples.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kleiber.runs import Estimate

__all__ = ["median_estimate", "quantile_estimate", "ratio_estimate"]

Floats = npt.NDArray[np.float64]

_NUM_RESAMPLES = 2000
_BOUNDS = (0.025, 0.975)
_MAX_DRAWN = 5_000_000
"""Times that all resamples hold together: 40 MB. Of very many times fewer resamples say as much."""


def median_estimate(values_R: Floats, *, seed: int = 0) -> Estimate:
    """Return the median of rounds with its bootstrap interval.

    Args:
        values_R: One of each round.
        seed: Of the resamples.

    Example:
        >>> median_estimate(np.array([2.0, 2.0, 2.0]))
        Estimate(value=2.0, low=2.0, high=2.0)
    """
    drawn_SR = _rounds(len(values_R), seed)
    return _estimate(float(np.median(values_R)), np.median(values_R[drawn_SR], axis=1))


def ratio_estimate(tops_R: Floats, bottoms_R: Floats, *, seed: int = 0) -> Estimate:
    """Return the ratio of two medians; whole rounds are resampled, so that what slows a round slows both.

    Args:
        tops_R: One of each round.
        bottoms_R: Of the same rounds.
        seed: Of the resamples.

    Source:
        Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13: the percentile interval.

    Example:
        >>> rounds = np.array([1.0, 5.0, 9.0])  # the machine's moods
        >>> ratio_estimate(2 * rounds, rounds)
        Estimate(value=2.0, low=2.0, high=2.0)
    """
    drawn_SR = _rounds(len(tops_R), seed)
    ratios_S = np.median(tops_R[drawn_SR], axis=1) / np.median(bottoms_R[drawn_SR], axis=1)
    return _estimate(float(np.median(tops_R) / np.median(bottoms_R)), ratios_S)


def quantile_estimate(times_RN: Floats, part: float, *, seed: int = 0) -> Estimate:
    """Return a quantile of all times together, with an interval from whole rounds that are resampled.

    Times of a round are alike: what slows a round slows all of them, so rounds are drawn and not single times.

    Args:
        times_RN: Of each round, as many.
        part: 0.5 is the median, 0.99 what 1 of 100 exceeds.
        seed: Of the resamples.

    Source:
        Davison and Hinkley 1997, Bootstrap Methods and their Application, section 3.8: resampling of clusters.

    Example:
        >>> quantile_estimate(np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]), 0.5)
        Estimate(value=2.0, low=2.0, high=2.0)
    """
    drawn_SR = _rounds(len(times_RN), seed)[: max(1, _MAX_DRAWN // times_RN.size)]
    resampled_S = np.quantile(times_RN[drawn_SR].reshape(len(drawn_SR), -1), part, axis=1)
    return _estimate(float(np.quantile(times_RN, part)), resampled_S)


def _rounds(num: int, seed: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, num, (_NUM_RESAMPLES, num))


def _estimate(value: float, resampled_S: Floats) -> Estimate:
    low, high = (float(bound) for bound in np.quantile(resampled_S, _BOUNDS))
    return Estimate(value=value, low=min(low, value), high=max(high, value))
