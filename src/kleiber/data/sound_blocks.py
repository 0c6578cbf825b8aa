"""The samples of a sound file, a block at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from kleiber.errors import DataError

__all__ = ["mono_blocks"]

_LOUDEST = 1e9
"""A sound goes from -1 to 1; the power of what is far beyond is no number in fp32."""


def mono_blocks(sound: Any, num_samples: int) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the mean over channels of an open `soundfile.SoundFile`, [L], L = `num_samples` but for the last block.

    `SoundFile.blocks` is not for files that may be damaged: where fewer samples decode than a header says, it yields memory that
    nobody wrote.

    Raises:
        DataError: A sample is not finite or absurdly large, or none decodes though the header speaks of some.
    """
    is_first = True
    while True:
        channels = sound.read(num_samples, dtype="float32", always_2d=True)
        if is_first and not len(channels) and sound.frames:
            raise DataError(f"does not decode: its header speaks of {sound.frames:,} samples")
        is_first = False
        with np.errstate(all="ignore"):  # what is not finite is told of in a sentence
            wave_L: npt.NDArray[np.float32] = channels.mean(1)
            is_sound = bool((np.abs(wave_L) <= _LOUDEST).all())
        if not is_sound:
            raise DataError("holds samples that are not finite, or beyond any sound")
        if len(wave_L):
            yield wave_L
        if len(wave_L) < num_samples:
            return
