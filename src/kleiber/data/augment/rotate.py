"""Turn images.

Shapes: N images, C channels, H height, W width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kleiber.data.augment.draws import Draws
from kleiber.data.augment.kornia_geometry import kornia_geometry

__all__ = ["rotate", "rotated"]

_DEGREES = 15


def rotate(x_NCHW: npt.NDArray[Any], strength: float, draws: Draws) -> npt.NDArray[Any]:
    """Return the images, each turned by up to 15 degrees times `strength` either way."""
    return rotated(x_NCHW, draws.between(-_DEGREES * strength, _DEGREES * strength))


def rotated(x_NCHW: npt.NDArray[Any], degrees_N: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
    """Return images turned counter-clockwise about their centres, bilinear, with 0 where nothing was.

    Raises:
        MissingExtraError: kornia is not installed.
    """
    geometry, torch = kornia_geometry("rotate")
    degrees = torch.from_numpy(degrees_N.astype(np.float32))
    turned: npt.NDArray[Any] = geometry.rotate(torch.tensor(x_NCHW), degrees).numpy()
    return turned
