"""Cut out a part of images and scale it back to their size.

Shapes: N images, C channels, H height, W width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kleiber.data.augment.draws import Draws
from kleiber.data.augment.kornia_geometry import kornia_geometry

__all__ = ["cropped", "scale_crop"]

_SMALLEST_AREA = 0.5
_ASPECT = 4 / 3


def scale_crop(x_NCHW: npt.NDArray[Any], strength: float, draws: Draws) -> npt.NDArray[Any]:
    """Return parts of the images, scaled back: from 0.5 ** `strength` to all of the area, anywhere.

    A part that would be wider or higher than its image is as wide or high as it.

    Source:
        Szegedy et al. 2015, arXiv:1409.4842, section 6: the aspects.
    """
    area_N = draws.between(_SMALLEST_AREA**strength, 1.0)
    aspect_N = np.exp(draws.between(-np.log(_ASPECT), np.log(_ASPECT)))
    width_N = np.minimum(1.0, np.sqrt(area_N * aspect_N))
    height_N = np.minimum(1.0, np.sqrt(area_N / aspect_N))
    left_N, top_N = draws.uniform() * (1 - width_N), draws.uniform() * (1 - height_N)
    return cropped(x_NCHW, np.stack([left_N, top_N, left_N + width_N, top_N + height_N], axis=1))


def cropped(x_NCHW: npt.NDArray[Any], box_N4: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
    """Return parts of images, bilinear, at the images' own size.

    Args:
        x_NCHW: Images.
        box_N4: Left, top, right and bottom, as fractions of the way from the first pixel's centre to the last one's.

    Raises:
        MissingExtraError: kornia is not installed.
    """
    geometry, torch = kornia_geometry("scale_crop")
    height, width = x_NCHW.shape[2:]
    corners = box_N4[:, [[0, 1], [2, 1], [2, 3], [0, 3]]] * [width - 1, height - 1]
    boxes = torch.from_numpy(corners.astype(np.float32))
    parts: npt.NDArray[Any] = geometry.crop_and_resize(torch.tensor(x_NCHW), boxes, (height, width)).numpy()
    return parts
