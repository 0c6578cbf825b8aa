"""Sound as pictures: log-mel spectrograms [1, M, T], all of one length.

Shapes: B clips, L samples of a clip, F frequencies, M mel bands, T frames.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kleiber.data.prepared import NpyWriter, PreparedMeta
from kleiber.data.sample_checks import left_out, num_in
from kleiber.errors import DataError

__all__ = ["Clip", "Mel", "log_mel", "mel_filters", "noted_rate", "prepare_spectrograms"]

_FLOOR = 1e-6
"""Power added to every band: digital silence has a logarithm too."""

_CHUNK = 64
_COVERED_PERCENT = 95
_FRAME_MULTIPLE = 8
_NOTED_RATE = re.compile(r"Sound at ([\d,]+) Hz became")


@dataclass(frozen=True)
class Clip:
    """A sound that has not been read."""

    name: str
    """For errors."""
    num_samples: int
    read: Callable[[], npt.NDArray[np.float32]]
    """Returns [L] between -1 and 1."""


@dataclass(frozen=True)
class Mel:
    """How a spectrogram is computed: windows of 25 ms, every 10 ms.

    Example:
        >>> mel = Mel(sample_rate=8000)
        >>> mel.num_bands, mel.window, mel.hop, mel.num_bins
        (40, 200, 80, 256)
    """

    sample_rate: int
    """[Hz]"""

    @property
    def num_bands(self) -> int:
        """M: 40 of telephone speech, 64 of what has more than 4 kHz."""
        return 40 if self.sample_rate < 16_000 else 64

    @property
    def window(self) -> int:
        """Samples that a frame sees."""
        return max(1, round(0.025 * self.sample_rate))

    @property
    def hop(self) -> int:
        """Samples from a frame to the next."""
        return max(1, round(0.010 * self.sample_rate))

    @property
    def num_bins(self) -> int:
        """Length of the Fourier transform: the next power of two."""
        return 1 << (self.window - 1).bit_length()


def mel_filters(mel: Mel) -> npt.NDArray[np.float32]:
    """Return the weights [F, M] of triangles that are evenly spaced in mel and overlap by half.

    A band's triangle rises from its left neighbour's centre to its own and falls to its right neighbour's, from 0 Hz to half of
    the sample rate; mel = 2595 log10(1 + Hz / 700).

    Source:
        Davis and Mermelstein 1980 (triangles); O'Shaughnessy 1987 (the formula, as HTK has it).
    """
    top_mel = 2595 * np.log10(1 + mel.sample_rate / 2 / 700)
    edges_hz = 700 * (10 ** (np.linspace(0, top_mel, mel.num_bands + 2) / 2595) - 1)
    bins_hz = np.arange(mel.num_bins // 2 + 1)[:, None] * mel.sample_rate / mel.num_bins
    rising = (bins_hz - edges_hz[:-2]) / (edges_hz[1:-1] - edges_hz[:-2])
    falling = (edges_hz[2:] - bins_hz) / (edges_hz[2:] - edges_hz[1:-1])
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


def log_mel(
    clips_BL: npt.NDArray[np.float32], mel: Mel, *, has_silence_around: bool = True
) -> npt.NDArray[np.float32]:
    """Return ln(power in each mel band + 1e-6), [B, M, T].

    Args:
        clips_BL: Samples.
        mel: How it is computed.
        has_silence_around: T = L // hop + 1: frame t is a Hann window centred on sample t * hop, and silence stands before the
            clip and after it. Else T = (L - num_bins) // hop + 1: the window is centred on sample t * hop + num_bins / 2, and
            all that the Fourier transform sees is of the clip.
    """
    import torch  # noqa: PLC0415 - only sound needs it here

    spectrum_BFT = torch.stft(
        torch.from_numpy(clips_BL),
        mel.num_bins,
        hop_length=mel.hop,
        win_length=mel.window,
        window=torch.hann_window(mel.window),
        center=has_silence_around,
        pad_mode="constant",
        return_complex=True,
    )
    power_BFT = spectrum_BFT.abs().square()
    bands_BMT = torch.from_numpy(mel_filters(mel)).T @ power_BFT
    logs: npt.NDArray[np.float32] = torch.log(bands_BMT + _FLOOR).numpy()
    return logs


def noted_rate(notes: Sequence[str]) -> int | None:
    """Return the sample rate [Hz] of which the notes of data that was sound speak; None of other data.

    Example:
        >>> noted_rate(["Sound at 8,000 Hz became log-mel spectrograms of 40 bands."])
        8000
    """
    found = next((match for note in notes if (match := _NOTED_RATE.match(note))), None)
    return int(found[1].replace(",", "")) if found else None


def prepare_spectrograms(
    folder: Path,
    clips: Sequence[Clip],
    is_train: npt.NDArray[np.bool_],
    *,
    sample_rate: int,
    source: str,
    skips_bad: bool,
    bad: Sequence[str] = (),
) -> PreparedMeta:
    """Write `images.npy` float32 [N, 1, M, T] and `kept.npy`, the indices in `clips` of those N.

    T covers 95% of the training clips whole, rounded up to a multiple of 8; longer clips are cut, shorter ones end in silence.

    Args:
        folder: Where to.
        clips: In order.
        is_train: Which of them are of the training split.
        sample_rate: [Hz]
        source: What the user typed, for errors.
        skips_bad: Whether clips that do not decode are left out.
        bad: A sentence about each clip that is not even among `clips`.

    Raises:
        DataError: A clip does not decode, or none is left.
    """
    mel, sentences = Mel(sample_rate), list(bad)
    lengths = np.array([clip.num_samples for clip in clips], np.int64)
    num_frames = _num_frames(lengths[is_train], mel) if is_train.any() else _FRAME_MULTIPLE
    digest = hashlib.sha256(str(sample_rate).encode())
    kept: list[int] = []
    with closing(NpyWriter(folder / "images.npy")) as writer:
        for start in range(0, len(clips), _CHUNK):
            chunk = range(start, min(start + _CHUNK, len(clips)))
            read = list(_read(clips, chunk, (num_frames - 1) * mel.hop, sentences))
            if read:
                kept += [index for index, _ in read]
                pictures = log_mel(np.stack([wave for _, wave in read]), mel)[:, None]
                digest.update(pictures.tobytes())
                writer.append(pictures)
    if not sentences and not kept:
        raise DataError(
            f"data.source '{source}' is empty: it holds no sound.", hint="name a source with sounds"
        )
    if sentences and not (skips_bad and kept):
        raise DataError(
            f"data.source '{source}': {num_in(len(sentences), 'clip')} of {len(sentences) + len(kept):,} cannot be "
            f"decoded; the first is {sentences[0]}.",
            hint="--set data.skips_bad_samples=true"
            if kept
            else "files of WAV, FLAC or another format that soundfile reads",
        )
    np.save(folder / "kept.npy", np.array(kept, np.intp))
    return PreparedMeta(
        content_hash=digest.hexdigest()[:16],
        num_bad_samples=len(sentences),
        notes=(*left_out(sentences), _note(mel, lengths, num_frames)),
    )


def _note(mel: Mel, lengths: npt.NDArray[np.int64], num_frames: int) -> str:
    num_cut = int((lengths > (num_frames - 1) * mel.hop).sum())
    return (
        f"Sound at {mel.sample_rate:,} Hz became log-mel spectrograms of {mel.num_bands} bands and {num_frames} frames of 10 ms; "
        f"{num_in(num_cut, 'longer clip')} of {len(lengths):,} lost the end."
    )


def _num_frames(lengths: npt.NDArray[np.int64], mel: Mel) -> int:
    covered = float(np.percentile(lengths, _COVERED_PERCENT, method="higher"))
    return max(1, math.ceil((math.ceil(covered / mel.hop) + 1) / _FRAME_MULTIPLE)) * _FRAME_MULTIPLE


def _read(
    clips: Sequence[Clip], indices: range, length: int, bad: list[str]
) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """Yield the clips that decode, cut or padded to `length`; sentences about the others go to `bad`."""
    for index in indices:
        try:
            wave = clips[index].read()
        except DataError as error:
            bad.append(f"{clips[index].name}: {error.message}")
            continue
        if not len(wave) or not np.isfinite(wave).all():
            bad.append(f"{clips[index].name}: " + ("not all of it is finite" if len(wave) else "it is empty"))
            continue
        padded = np.zeros(length, np.float32)
        padded[: min(length, len(wave))] = wave[:length]
        yield index, padded
