"""Image files as a model was trained on them.

Shapes: C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kleiber.data.image_folder import IMAGE_SUFFIXES
from kleiber.data.images import decode_image
from kleiber.data.normalization import Normalization
from kleiber.errors import DataError
from kleiber.infer.classification.arrays import ArrayReader
from kleiber.runs import DataShape, Record

__all__ = ["ImageReader", "holds_pixels"]

_PIXEL_SOURCES = ("imagefolder", "cifar10", "hf")
"""Kinds of data whose images are files of 8 bits a channel."""
_LEAST_RANGE = 64
"""Of numbers in arrays: what stays below is not from 0 to 255."""


def holds_pixels(record: Record) -> bool:
    """Return whether a run's images had numbers from 0 to 255, as image files do.

    Arrays in a file may hold any; by mean and deviation, or least and range, those of pixels are known.
    """
    if record.recipe.data.source.partition(":")[0] in _PIXEL_SOURCES:
        return True
    scales = record.data.input_scales.get("images")
    if scales is None:
        return False
    reached = (abs(offset) + 4 * scale for offset, scale in zip(scales.offset, scales.scale, strict=True))
    return max(reached) >= _LEAST_RANGE


@dataclass(frozen=True)
class ImageReader:
    """Reads an image file as one image; arrays in `.npy` files too."""

    shape: DataShape
    normalization: Normalization
    arrays: ArrayReader
    image_size: int | None
    """Pixels of each side that images are resized to, as the run's were; None takes those of the right size only."""

    @property
    def suffixes(self) -> frozenset[str]:
        """Of the files that it reads."""
        return IMAGE_SUFFIXES | self.arrays.suffixes

    def read(self, path: Path) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
        """Yield the image, [C, H, W].

        Raises:
            DataError: It does not decode, or is of another size, or in colour where the run's were grey.
            MissingExtraError: Pillow is not installed.
        """
        if path.suffix.lower() in self.arrays.suffixes:
            yield from self.arrays.read(path)
            return
        try:
            encoded = path.read_bytes()
        except OSError as error:
            raise DataError(f"'{path}' cannot be read: {error.strerror or error}.") from None
        yield str(path), self.of(encoded, f"'{path}'")

    def of(
        self,
        encoded: bytes,
        name: str,
        *,
        max_pixels: int | None = None,
        formats: tuple[str, ...] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Return the image of a file's bytes as it goes into the model, [C, H, W].

        Args:
            encoded: The bytes.
            name: What it is called, for the error.
            max_pixels: As of `decode_image`.
            formats: As of `decode_image`.

        Raises:
            DataError: It does not decode, or is of another size, or in colour where the run's were grey.
            MissingExtraError: Pillow is not installed.
        """
        try:
            pixels, _ = decode_image(encoded, self.image_size, max_pixels=max_pixels, formats=formats)
        except DataError as error:
            raise DataError(f"{name}: {error.message}.", hint="a PNG or JPEG file") from None
        return self._normalized(pixels, name)

    def _normalized(self, pixels_CHW: npt.NDArray[np.uint8], name: str) -> npt.NDArray[np.float32]:
        channels, height, width = self.shape.channels or 1, self.shape.height or 1, self.shape.width or 1
        if pixels_CHW.shape[1:] != (height, width):
            raise DataError(
                f"{name} must be {width} x {height} pixels, as the run's images are.",
                got=f"{pixels_CHW.shape[2]} x {pixels_CHW.shape[1]}",
                hint=f"convert {name} -resize {width}x{height}! resized.png",
            )
        if len(pixels_CHW) > channels:
            raise DataError(
                f"{name} is in colour, and the run's images are grey.",
                hint=f"convert {name} -colorspace Gray grey.png",
            )
        whole_CHW = np.broadcast_to(pixels_CHW, (channels, height, width))
        normalized_CHW: npt.NDArray[np.float32] = self.normalization.apply(whole_CHW[None])[0]
        return normalized_CHW
