"""Normalization of what goes in: fitted on training samples, undone to show them.

Shapes: N samples, B of a batch, C channels or columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from kleiber.data.data import Samples
from kleiber.runs.record import InputScale

__all__ = ["NORMALIZED_ROLES", "Normalization", "chunks", "fit_normalization"]

NORMALIZED_ROLES: dict[str, int] = {"images": 1, "features": 1, "series": 2}
"""What is normalized, and which axis of it has a mean and a deviation each: channels, columns."""

_CHUNK_BYTES = 2**22


@dataclass(frozen=True)
class Normalization:
    """x -> (x - offset) / scale for each channel or column.

    Example:
        >>> halved = Normalization(offset=np.float32([1]), scale=np.float32([2]), axis=1)
        >>> halved.apply(np.array([[5.0]])).tolist(), halved.undo(np.float32([[2]])).tolist()
        ([[2.0]], [[5.0]])
    """

    offset: npt.NDArray[np.float32]
    """[C]"""
    scale: npt.NDArray[np.float32]
    """[C], above 0: 1 where all training samples agree."""
    axis: int
    """Of the C in a batch."""

    @property
    def scales(self) -> InputScale:
        """The same, to be written down."""
        return InputScale(offset=tuple(self.offset.tolist()), scale=tuple(self.scale.tolist()))

    def apply(self, x_B: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return a normalized copy of a batch."""
        y_B = x_B.astype(np.float32)
        y_B -= self._over(self.offset, y_B.ndim)
        y_B /= self._over(self.scale, y_B.ndim)
        return y_B

    def undo(self, y_B: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return a batch as it was before `apply`, in float32."""
        return y_B * self._over(self.scale, y_B.ndim) + self._over(self.offset, y_B.ndim)

    def _over(self, numbers: npt.NDArray[np.float32], num_axes: int) -> npt.NDArray[np.float32]:
        return numbers.reshape([-1 if axis == self.axis else 1 for axis in range(num_axes)])


def fit_normalization(
    samples: Samples, kind: Literal["standard", "unit", "none"]
) -> dict[str, Normalization]:
    """Return the normalization of each role that has one.

    Args:
        samples: Of the training split, all that are learnt from and no others.
        kind: `standard`: mean 0, deviation 1; `unit`: from 0 to 1; `none`: as they are, in float32.
    """
    probe = samples.gather(np.zeros(1, np.intp))
    fitted = {}
    for role, axis in NORMALIZED_ROLES.items():
        if role in probe:
            num = probe[role].shape[axis]
            offset, scale = np.zeros(num), np.ones(num)
            if kind == "standard":
                offset, scale = _mean_and_std(samples, role, axis)
            elif kind == "unit":
                offset, scale = _low_and_range(samples, role, axis)
            # A column in which nothing varies stays at 0 instead of growing without bound.
            scale = np.where(scale > 1e-7 * np.maximum(1e-7, np.abs(offset)), scale, 1.0)
            fitted[role] = Normalization(offset.astype(np.float32), scale.astype(np.float32), axis)
    return fitted


def chunks(samples: Samples) -> Iterator[tuple[npt.NDArray[np.intp], dict[str, npt.NDArray[Any]]]]:
    """Yield all samples in order, indices and arrays, as many at a time as memory hardly notices."""
    if not len(samples):
        return
    sample_bytes = sum(array.nbytes for array in samples.gather(np.zeros(1, np.intp)).values())
    step = max(1, _CHUNK_BYTES // max(1, sample_bytes))
    for start in range(0, len(samples), step):
        indices = np.arange(start, min(start + step, len(samples)))
        yield indices, samples.gather(indices)


def _mean_and_std(
    samples: Samples, role: str, axis: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Merge chunks' means and squares (Chan et al. 1979): no sum of squares loses the small differences."""
    num, mean, squares = 0, np.zeros(1), np.zeros(1)
    for _, arrays in chunks(samples):
        x = arrays[role].astype(np.float64)
        others = tuple(other for other in range(x.ndim) if other != axis)
        count = x.size // x.shape[axis]
        own = x.mean(others)
        delta = own - mean
        squares = squares + x.var(others) * count + delta**2 * num * count / (num + count)
        mean = mean + delta * count / (num + count)
        num += count
    return mean, np.sqrt(squares / num)


def _low_and_range(
    samples: Samples, role: str, axis: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    low, high = np.array(np.inf), np.array(-np.inf)
    for _, arrays in chunks(samples):
        x = arrays[role]
        others = tuple(other for other in range(x.ndim) if other != axis)
        low, high = np.minimum(low, x.min(others)), np.maximum(high, x.max(others))
    return low, high - low
