"""Add noise to numbers.

Shapes: N samples of any shape.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kleiber.data.augment.draws import Draws

__all__ = ["noise"]

_DEVIATION = 0.1


def noise(x_N: npt.NDArray[Any], strength: float, draws: Draws) -> npt.NDArray[Any]:
    """Return the samples with normal noise of deviation 0.1 times `strength` on every number."""
    added_N = np.float32(_DEVIATION * strength) * draws.normal(*x_N.shape[1:])
    return np.asarray(x_N + added_N, x_N.dtype)
