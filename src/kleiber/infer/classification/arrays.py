"""Arrays in `.npy` files as a model was trained on them: one sample, or several along the first axis."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kleiber.data.normalization import Normalization
from kleiber.errors import DataError
from kleiber.runs import DataShape

__all__ = ["ArrayReader"]


@dataclass(frozen=True)
class ArrayReader:
    """Reads images [C, H, W], features [F] or series [T, F], as they were before they were normalized."""

    shape: DataShape
    normalization: Normalization

    suffixes: frozenset[str] = frozenset({".npy"})

    @property
    def sizes(self) -> tuple[int, ...]:
        """Of one sample."""
        shape = self.shape
        sizes = {
            "images": (shape.channels, shape.height, shape.width),
            "series": (shape.context, shape.num_features),
        }.get(shape.inputs, (shape.num_features,))
        return tuple(size or 1 for size in sizes)

    def read(self, path: Path) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
        """Yield each sample.

        Raises:
            DataError: It is no such array, of another shape, or not finite.
        """
        try:
            array = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"'{path}' is no array: {str(error).splitlines()[0]}.") from None
        is_one = array.shape == self.sizes
        samples = self.of(array, f"'{path}'")
        for index, sample in enumerate(samples):
            yield str(path) if is_one else f"{path} [{index}]", sample

    def of(self, array: npt.NDArray[Any], name: str) -> npt.NDArray[np.float32]:
        """Return samples as they go into the model, one or several, along the first axis.

        Args:
            array: One sample, or several.
            name: What it is called, for the error.

        Raises:
            DataError: It is of another shape, or not of finite numbers.
        """
        is_one = array.shape == self.sizes
        if not is_one and array.shape[1:] != self.sizes:
            raise DataError(
                f"{name} must hold {self.shape.inputs} of the shape {list(self.sizes)}, one or several along the first axis.",
                got=list(array.shape),
                hint="numpy.save('sample.npy', array)",
            )
        if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
            raise DataError(f"{name} must hold finite numbers.", got=str(array.dtype))
        normalized: npt.NDArray[np.float32] = self.normalization.apply(array[None] if is_one else array)
        return normalized
