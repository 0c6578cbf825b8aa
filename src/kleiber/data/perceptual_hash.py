"""Which images look alike: hashes of their low frequencies, compared without looking at all pairs.

Shapes: N images, B of a block, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt

__all__ = ["first_lookalikes", "low_frequencies", "perceptual_hashes"]

_SIDE = 8
"""Frequencies a side: 64 bits."""

_BANDS = ((0, 9), (9, 9), (18, 9), (27, 9), (36, 9), (45, 9), (54, 10))
"""First bit and number of bits of the bands that a hash is cut into."""
_MAX_BITS = len(_BANDS) - 1
"""Hashes that differ in so few bits agree in one of the bands at least. JPEG changes 2 to 6."""

_MAX_DIFFERENCE = 0.1
"""Of the low frequencies of lookalikes, relative to the larger: hashes alone would join two plain strokes. Recompressing changes
1 to 2%."""

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Brightness of RGB (ITU-R BT.601), the one that JPEG keeps whole."""

_BLOCK = 512


def low_frequencies(images_BCHW: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    """Return the lowest 8 x 8 frequencies [B, 64] of the grey images, by an orthonormal cosine transform (DCT-II)."""
    num_channels = images_BCHW.shape[1]
    weights_C = _LUMA if num_channels == 3 else np.full(num_channels, 1 / num_channels, np.float32)
    grey_BHW = np.einsum("bchw,c->bhw", images_BCHW.astype(np.float32), weights_C)
    vertical_8H, horizontal_8W = (_cosines(size) for size in grey_BHW.shape[1:])
    spectrum_B88 = vertical_8H @ grey_BHW @ horizontal_8W.T
    return np.ascontiguousarray(spectrum_B88.reshape(-1, _SIDE * _SIDE), np.float32)


def _cosines(size: int) -> npt.NDArray[np.float32]:
    frequencies = np.arange(_SIDE)[:, None]
    waves = np.cos(np.pi * (np.arange(size) + 0.5) * frequencies / size)
    return (waves * np.sqrt(np.where(frequencies == 0, 1, 2) / size)).astype(np.float32)


def perceptual_hashes(frequencies_N64: npt.NDArray[np.float32]) -> npt.NDArray[np.uint64]:
    """Return a bit for each frequency: whether it is above the median of those of its image [N].

    Source:
        Zauner 2010, Implementation and Benchmarking of Perceptual Image Hash Functions, section 3.2.1.
    """
    medians = np.median(frequencies_N64[:, 1:], axis=1, keepdims=True)
    bits = np.packbits(frequencies_N64 > medians, axis=1)
    return np.ascontiguousarray(bits).view(np.uint64)[:, 0]


def first_lookalikes(frequencies_N64: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    """Return for each image the first one that looks like it, itself where no earlier one does [N].

    Two look alike when their hashes differ in at most 6 of 64 bits and their low frequencies, brightness left out, by at most
    a tenth of the larger. Drawings of a few strokes look alike more often than photographs do.

    Example:
        >>> images = np.random.default_rng(0).random((3, 1, 16, 16))
        >>> images[2] = 0.5 * images[0] + 0.5 * images[0].round(1)
        >>> first_lookalikes(low_frequencies(images)).tolist()
        [0, 1, 0]
    """
    hashes = perceptual_hashes(frequencies_N64)
    shapes = frequencies_N64[:, 1:]
    norms = np.linalg.norm(shapes, axis=1)
    first = np.arange(len(hashes))
    for earlier, later in _close_pairs(hashes):
        difference = np.linalg.norm(shapes[earlier] - shapes[later], axis=1)
        is_alike = difference <= _MAX_DIFFERENCE * np.maximum(norms[earlier], norms[later])
        np.minimum.at(first, later[is_alike], earlier[is_alike])
    return first


def _close_pairs(
    hashes: npt.NDArray[np.uint64],
) -> Iterator[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    """Yield pairs of indices, the smaller first, whose hashes differ in few bits; a pair may come again."""
    bits = np.unpackbits(hashes[:, None].view(np.uint8), axis=1)
    signs = 2 * bits.astype(np.float32) - 1  # the product of two rows is 64 less twice the bits that differ
    least_product = signs.shape[1] - 2 * _MAX_BITS
    for shift, num_bits in _BANDS:
        keys = (hashes >> np.uint64(shift)) & np.uint64(2**num_bits - 1)
        order = np.argsort(keys, kind="stable")
        bounds = np.flatnonzero(np.diff(keys[order], prepend=~keys[order[:1]], append=~keys[order[-1:]]))
        for start, end in pairwise(bounds.tolist()):
            members = order[start:end]  # ascending, as the sort is stable
            for row in range(0, len(members) - 1, _BLOCK):
                rows, columns = members[row : row + _BLOCK], members[row + 1 :]
                is_close = signs[rows] @ signs[columns].T >= least_product
                i, j = np.nonzero(is_close & (rows[:, None] < columns))
                yield rows[i], columns[j]
