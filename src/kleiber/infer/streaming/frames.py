"""The spectrogram of a sound that arrives in pieces: frame by frame that of the whole sound.

Shapes: L samples of a piece, M mel bands, T frames.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kleiber.data.spectrograms import Mel, log_mel

__all__ = ["FrameStream"]


class FrameStream:
    """Computes each frame as soon as all samples that it sees are there; holds less than a frame of samples.

    Args:
        mel: How a spectrogram is computed.
    """

    def __init__(self, mel: Mel) -> None:
        self.mel = mel
        self.num_samples = 0
        """That arrived."""
        # Silence stands before the sound: the first frame is centred on its first sample.
        self._held_L = np.zeros(mel.num_bins // 2, np.float32)

    def push(self, samples_L: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the frames that these samples complete, [M, T]; often none."""
        self.num_samples += len(samples_L)
        self._held_L = np.concatenate([self._held_L, samples_L])
        frames_MT = self._frames(self._held_L)
        self._held_L = self._held_L[frames_MT.shape[1] * self.mel.hop :]
        return frames_MT

    def unfinished(self) -> npt.NDArray[np.float32]:
        """Return the frames that are not complete as they would be if the sound ended here, [M, T]; it may go on after."""
        return self._frames(np.concatenate([self._held_L, np.zeros(self.mel.num_bins // 2, np.float32)]))

    def silence(self, num_frames: int) -> npt.NDArray[np.float32]:
        """Return so many frames in which there is nothing, [M, T]."""
        nothing_L = np.zeros(self.mel.num_bins, np.float32)
        return np.repeat(self._frames(nothing_L), num_frames, axis=1)

    def _frames(self, samples_L: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        if len(samples_L) < self.mel.num_bins:
            return np.zeros((self.mel.num_bands, 0), np.float32)
        frames_MT: npt.NDArray[np.float32] = log_mel(samples_L[None], self.mel, has_silence_around=False)[0]
        return frames_MT
