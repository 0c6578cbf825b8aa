"""Move images by whole pixels.

Shapes: N images, C channels, H height, W width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kleiber.data.augment.draws import Draws

__all__ = ["moved", "shift"]

_FRACTION = 1 / 8


def shift(x_NCHW: npt.NDArray[Any], strength: float, draws: Draws) -> npt.NDArray[Any]:
    """Return the images, moved by up to an eighth of each side times `strength`, 0 where nothing was.

    Source:
        He et al. 2015, arXiv:1512.03385, section 4.2: padding by 4 of 32 pixels, and a crop.
    """
    most_2 = np.round(np.array(x_NCHW.shape[2:]) * _FRACTION * strength)
    offsets_N2 = np.floor(draws.uniform(2) * (2 * most_2 + 1) - most_2).astype(np.intp)
    return moved(moved(x_NCHW, offsets_N2[:, 0], axis=2), offsets_N2[:, 1], axis=3)


def moved(
    x_NCHW: npt.NDArray[Any], offsets_N: npt.NDArray[np.intp], *, axis: int, fill: npt.ArrayLike = 0.0
) -> npt.NDArray[Any]:
    """Return images, each moved along an axis towards its end.

    Args:
        x_NCHW: Images.
        offsets_N: Pixels; negative ones move towards the start.
        axis: 2 or 3.
        fill: What stands where nothing was; broadcasts to the images.

    Example:
        >>> moved(np.arange(1.0, 5.0).reshape(1, 1, 1, 4), np.array([1]), axis=3).tolist()
        [[[[0.0, 1.0, 2.0, 3.0]]]]
    """
    size = x_NCHW.shape[axis]
    places = np.arange(size) - offsets_N[:, None]
    over = tuple(size if other == axis else 1 for other in (1, 2, 3))
    sources = np.clip(places, 0, size - 1).reshape(-1, *over)
    is_inside = ((places >= 0) & (places < size)).reshape(-1, *over)
    taken = np.take_along_axis(x_NCHW, sources, axis)
    return np.where(is_inside, taken, np.asarray(fill, x_NCHW.dtype))
