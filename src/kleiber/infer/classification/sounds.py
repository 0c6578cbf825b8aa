"""Sound files as a model was trained on them.

Shapes: L samples, M mel bands, T frames of the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from kleiber.data.audio_folder import AUDIO_SUFFIXES
from kleiber.data.normalization import Normalization
from kleiber.data.sound_blocks import mono_blocks
from kleiber.data.spectrograms import Mel, log_mel
from kleiber.errors import DataError, MissingExtraError

__all__ = ["SoundReader"]

_MOST_CHANNELS = 64
"""Of a sound whose length is limited: a block of samples is held for each."""


@dataclass(frozen=True)
class SoundReader:
    """Reads a sound file as one spectrogram; longer sounds lose the end, shorter ones end in silence."""

    mel: Mel
    num_frames: int
    """T"""
    normalization: Normalization

    suffixes: frozenset[str] = AUDIO_SUFFIXES

    def read(self, path: Path) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
        """Yield the spectrogram, [1, M, T].

        Raises:
            DataError: It does not decode, is empty or not finite, or has another sample rate.
            MissingExtraError: soundfile is not installed.
        """
        yield str(path), self.of(path, f"'{path}'")

    def of(
        self, source: Path | BinaryIO, name: str, *, max_s: float | None = None
    ) -> npt.NDArray[np.float32]:
        """Return the spectrogram of a sound as it goes into the model, [1, M, T].

        Args:
            source: A file, or its bytes.
            name: What it is called, for the error.
            max_s: A sound whose header says that it lasts longer is refused before it is decoded; None takes any.

        Raises:
            DataError: It does not decode, is empty, too long or not finite, or has another sample rate.
            MissingExtraError: soundfile is not installed.
        """
        most = (self.num_frames - 1) * self.mel.hop
        wave_L = next(self._pieces(source, name, most, max_s), np.zeros(0, np.float32))
        if not len(wave_L):
            raise DataError(f"{name} is empty: there is no sound to classify.", hint="a file with a sound")
        padded_L = np.zeros(most, np.float32)
        padded_L[: len(wave_L)] = wave_L
        return self.normalized(log_mel(padded_L[None], self.mel))

    def normalized(self, frames_1MT: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return a spectrogram as it goes into the model, [1, M, T]."""
        normalized_1MT: npt.NDArray[np.float32] = self.normalization.apply(frames_1MT[None])[0]
        return normalized_1MT

    def pieces(self, path: Path, num_samples: int) -> Iterator[npt.NDArray[np.float32]]:
        """Yield the samples of a file a piece at a time, [L]; its channels are averaged.

        Args:
            path: A file that soundfile reads.
            num_samples: Of a piece; the last may be shorter.

        Raises:
            DataError: It does not decode, is not finite, or has another sample rate.
            MissingExtraError: soundfile is not installed.
        """
        yield from self._pieces(path, f"'{path}'", num_samples, None)

    def _pieces(
        self, source: Path | BinaryIO, name: str, num_samples: int, max_s: float | None
    ) -> Iterator[npt.NDArray[np.float32]]:
        soundfile = _soundfile()
        try:
            with soundfile.SoundFile(str(source) if isinstance(source, Path) else source) as sound:
                self._require_rate(name, sound.samplerate)
                _require_length(name, sound, max_s)
                yield from self._named(mono_blocks(sound, num_samples), name)
        except (soundfile.LibsndfileError, OSError) as error:
            reason = str(getattr(error, "error_string", error)).rstrip(".")
            raise DataError(f"{name} cannot be decoded: {reason}.", hint="a WAV or FLAC file") from None

    @staticmethod
    def _named(blocks: Iterator[npt.NDArray[np.float32]], name: str) -> Iterator[npt.NDArray[np.float32]]:
        try:
            yield from blocks
        except DataError as error:
            raise DataError(f"{name} {error.message}.") from None

    def _require_rate(self, name: str, rate: int) -> None:
        if rate != self.mel.sample_rate:
            raise DataError(
                f"{name} must have {self.mel.sample_rate:,} samples a second, as the run's sounds had.",
                got=rate,
                hint=f"sox {name} -r {self.mel.sample_rate} resampled.wav",
            )


def _require_length(name: str, sound: Any, max_s: float | None) -> None:
    if max_s is None:
        return
    if sound.frames > max_s * sound.samplerate:
        raise DataError(
            f"{name} lasts {sound.frames / sound.samplerate:,.0f} s, and at most {max_s:,g} s are read.",
            hint="the part of it that matters",
        )
    if sound.channels > _MOST_CHANNELS:
        raise DataError(f"{name} must have at most {_MOST_CHANNELS} channels.", got=sound.channels)


def _soundfile() -> Any:
    try:
        import soundfile  # noqa: PLC0415 - an extra
    except ImportError:
        raise MissingExtraError.of("soundfile", "data", "Reading sound") from None
    return soundfile
