"""Move sounds in time.

Shapes: N spectrograms, C channels, M pitches, T frames.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kleiber.data.augment.draws import Draws
from kleiber.data.augment.shift import moved

__all__ = ["time_shift"]

_FRACTION = 0.1


def time_shift(x_NCMT: npt.NDArray[Any], strength: float, draws: Draws) -> npt.NDArray[Any]:
    """Return the spectrograms, moved by up to a tenth of their length times `strength`.

    What comes in from outside is as quiet as each pitch ever is in that sound.
    """
    most = round(x_NCMT.shape[3] * _FRACTION * strength)
    offsets_N = np.floor(draws.uniform() * (2 * most + 1) - most).astype(np.intp)
    return moved(x_NCMT, offsets_N, axis=3, fill=x_NCMT.min(3, keepdims=True))
