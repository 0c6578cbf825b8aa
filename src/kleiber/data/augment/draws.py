"""Random numbers of each sample, by its position in the run.

Shapes: B samples of a batch, N of them that are changed.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

__all__ = ["Draws"]

_DOMAIN = 2**32
"""Keeps these streams apart from those of the order of samples, which are keyed by seed and epoch."""
_VALUES_A_BLOCK = 4
"""Numbers of 64 bits that Philox gives for each value of its counter."""


class Draws:
    """A stream of random numbers for each sample of a batch.

    Reads raw Philox numbers at the counter where a sample stands, whose stream NumPy keeps the same for good. Each call takes
    new numbers.

    Args:
        seed: Of the run.
        stream: Each has numbers of its own.
        cursor: Samples seen before this batch.
        num: B.
        chosen_B: Which of the samples draw; None is all.

    Example:
        >>> whole, part = Draws(0, 0, cursor=0, num=4).uniform(2), Draws(0, 0, cursor=3, num=1).uniform(2)
        >>> bool((whole[3:] == part).all())
        True
    """

    def __init__(
        self,
        seed: int,
        stream: int,
        *,
        cursor: int,
        num: int,
        chosen_B: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        self._key = np.array([seed, _DOMAIN + stream], np.uint64)
        self._cursor = cursor
        self._num_samples = num
        self._rows = np.arange(num) if chosen_B is None else np.flatnonzero(chosen_B)
        self._num_calls = 0

    def __len__(self) -> int:
        """Return N."""
        return len(self._rows)

    def uniform(self, *shape: int) -> npt.NDArray[np.float64]:
        """Return numbers in [0, 1), [N, *shape]."""
        drawn = self._raw(math.prod(shape)) >> np.uint64(11)
        return drawn.reshape(-1, *shape).astype(np.float64) * 2.0**-53

    def between(self, low: float, high: float, *shape: int) -> npt.NDArray[np.float64]:
        """Return numbers in [low, high), [N, *shape]."""
        return low + (high - low) * self.uniform(*shape)

    def normal(self, *shape: int) -> npt.NDArray[np.float32]:
        """Return numbers of mean 0 and deviation 1, [N, *shape], 24 random bits each.

        Source:
            Box & Muller 1958.
        """
        num_values = math.prod(shape)
        raw = self._raw(-(-num_values // 2))
        radius = np.sqrt(-2 * np.log(_fraction(raw >> np.uint64(40)) + np.float32(2**-24)))
        angle = _fraction(raw & np.uint64(2**24 - 1)) * np.float32(2 * np.pi)
        normal = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
        return normal[:, :num_values].reshape(-1, *shape)

    def _raw(self, num_values: int) -> npt.NDArray[np.uint64]:
        """Return numbers of 64 random bits, [N, num_values]."""
        num_blocks = -(-num_values // _VALUES_A_BLOCK)
        counter = (self._num_calls << 64) + self._cursor * num_blocks
        self._num_calls += 1
        raw = np.random.Philox(key=self._key, counter=counter).random_raw(
            self._num_samples * num_blocks * _VALUES_A_BLOCK
        )
        return raw.reshape(self._num_samples, -1)[self._rows, :num_values]


def _fraction(bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.float32]:
    """Return 24 bits as a number in [0, 1)."""
    return bits.astype(np.float32) * np.float32(2**-24)
