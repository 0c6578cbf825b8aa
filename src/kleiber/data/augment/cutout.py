"""Blank a square of images.

Shapes: N images, C channels, H height, W width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kleiber.data.augment.draws import Draws

__all__ = ["cutout"]

_FRACTION = 0.5


def cutout(x_NCHW: npt.NDArray[Any], strength: float, draws: Draws) -> npt.NDArray[Any]:
    """Return the images with 0 in a square of half the shorter side times `strength`.

    Its middle may be any pixel: a part of the square may lie outside.

    Source:
        DeVries & Taylor 2017, arXiv:1708.04552, section 3.2; 16 of 32 pixels is their choice for CIFAR-10.
    """
    height, width = x_NCHW.shape[2:]
    side = round(min(height, width) * _FRACTION * strength)
    middle_N2 = np.floor(draws.uniform(2) * [height, width])
    first_N2 = middle_N2 - side // 2
    is_cut_NH = _is_within(np.arange(height), first_N2[:, :1], side)
    is_cut_NW = _is_within(np.arange(width), first_N2[:, 1:], side)
    is_cut = is_cut_NH[:, None, :, None] & is_cut_NW[:, None, None, :]
    return np.where(is_cut, x_NCHW.dtype.type(0), x_NCHW)


def _is_within(
    places: npt.NDArray[np.intp], first_N1: npt.NDArray[np.float64], size: int
) -> npt.NDArray[np.bool_]:
    return (places >= first_N1) & (places < first_N1 + size)
