"""Mirror images, left to right.

Shapes: N images, C channels, H height, W width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kleiber.data.augment.draws import Draws

__all__ = ["flip"]


def flip(x_NCHW: npt.NDArray[Any], _strength: float, draws: Draws) -> npt.NDArray[Any]:
    """Return the images, each mirrored or not with equal chances."""
    is_mirrored_N = draws.uniform() < 0.5
    return np.where(is_mirrored_N[:, None, None, None], x_NCHW[..., ::-1], x_NCHW)
