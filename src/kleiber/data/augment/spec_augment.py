"""Blank bands of spectrograms.

Shapes: N spectrograms, C channels, M pitches, T frames.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kleiber.data.augment.draws import Draws

__all__ = ["spec_augment"]

_NUM_BANDS = 2
_PITCH_FRACTION = 0.2
_TIME_FRACTION = 0.1


def spec_augment(x_NCMT: npt.NDArray[Any], strength: float, draws: Draws) -> npt.NDArray[Any]:
    """Return the spectrograms with 0, their mean, in two bands of pitches and two of time.

    A band is as wide as up to a fifth of the pitches or a tenth of the frames, times `strength`.

    Source:
        Park et al. 2019, arXiv:1904.08779, section 2, without time warping; two bands each as in their policy LD.
    """
    pitches, frames = x_NCMT.shape[2:]
    is_cut_NM = _bands(pitches, round(pitches * _PITCH_FRACTION * strength), draws)
    is_cut_NT = _bands(frames, round(frames * _TIME_FRACTION * strength), draws)
    is_cut = is_cut_NM[:, None, :, None] | is_cut_NT[:, None, None, :]
    return np.where(is_cut, x_NCMT.dtype.type(0), x_NCMT)


def _bands(size: int, widest: int, draws: Draws) -> npt.NDArray[np.bool_]:
    """Return [N, size]: which places are in a band of 0 to `widest` places."""
    widths = np.floor(draws.uniform(_NUM_BANDS, 1) * (widest + 1))
    starts = np.floor(draws.uniform(_NUM_BANDS, 1) * (size - widths + 1))
    places = np.arange(size)
    is_cut: npt.NDArray[np.bool_] = ((places >= starts) & (places < starts + widths)).any(1)
    return is_cut
