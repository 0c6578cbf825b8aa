"""Change brightness, contrast and saturation of images.

Shapes: N images, C channels, H height, W width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kleiber.data.augment.draws import Draws

__all__ = ["colour", "coloured"]

_AMOUNT = 0.4
_LUMA = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in grey (ITU-R BT.601)."""


def colour(x_NCHW: npt.NDArray[Any], strength: float, draws: Draws) -> npt.NDArray[Any]:
    """Return the images, brighter or darker by up to 0.4 deviations, contrast and saturation times 0.6 to 1.4.

    All three amounts are times `strength`. Images need no range: brightness is in deviations of the image itself.
    """
    amount = _AMOUNT * strength
    brightness_N, contrast_N, saturation_N = draws.between(-amount, amount, 3).T
    return coloured(x_NCHW, brightness_N, 1 + contrast_N, 1 + saturation_N)


def coloured(
    x_NCHW: npt.NDArray[Any],
    brightness_N: npt.NDArray[np.float64],
    contrast_N: npt.NDArray[np.float64],
    saturation_N: npt.NDArray[np.float64],
) -> npt.NDArray[Any]:
    """Return images with other colours; nothing is clipped.

    Args:
        x_NCHW: Images; those that have not 3 channels have no saturation.
        brightness_N: Added, in deviations of the image.
        contrast_N: Factor of the distance from the image's mean grey; 1 changes nothing.
        saturation_N: Factor of the distance of each pixel from its own grey; 1 changes nothing.
    """

    def of_each(values_N: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
        return values_N.astype(x_NCHW.dtype)[:, None, None, None]

    mean = _grey(x_NCHW).mean((1, 2, 3), keepdims=True)
    deviation = x_NCHW.std((1, 2, 3), keepdims=True)
    y: npt.NDArray[Any] = mean + of_each(contrast_N) * (x_NCHW - mean) + of_each(brightness_N) * deviation
    if x_NCHW.shape[1] == len(_LUMA):
        grey = _grey(y)
        y = grey + of_each(saturation_N) * (y - grey)
    return y


def _grey(x_NCHW: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return [N, 1, H, W]; the mean of all channels where they are not three."""
    if x_NCHW.shape[1] != len(_LUMA):
        mean: npt.NDArray[Any] = x_NCHW.mean(1, keepdims=True)
        return mean
    grey: npt.NDArray[Any] = (x_NCHW * np.array(_LUMA, x_NCHW.dtype)[:, None, None]).sum(1, keepdims=True)
    return grey
