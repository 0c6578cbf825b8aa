"""A file, or standard input, as pieces in the order in which they arrive.

Legend: L samples of a sound, T rows of a series, F features of a row.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from kleiber.errors import DataError, UsageError
from kleiber.infer.classification import Classifier
from kleiber.infer.classification.batches import STANDARD_INPUT
from kleiber.infer.classification.sounds import SoundReader

__all__ = ["pieces_of"]

_BYTES = 2**12
"""Of text that are read at once where they are there; fewer where fewer have arrived."""
_FULL_SCALE = 2**15
"""Of 16-bit samples."""


def pieces_of(
    classifier: Classifier, file: str, standard_input: BinaryIO, *, num_ms: int
) -> Iterator[tuple[str, Any]]:
    """Yield where a stream stands after each piece, and the piece, as a stream of the classifier's takes it.

    Args:
        classifier: Says whether it is text or sound.
        file: A path; `-` is standard input: text in UTF-8, or 16-bit little-endian samples of one channel at the run's rate.
        standard_input: Read where the file is `-`.
        num_ms: Of a piece of sound.

    Raises:
        DataError: The file is missing, or is no text in UTF-8 or no sound of the run's rate.
        UsageError: The classifier reads series, which come as arrays.
    """
    if classifier.record.data.shape.inputs == "series":
        raise UsageError(
            f"{classifier.folder} classifies series, whose rows arrive as arrays: open_stream in Python takes them.",
            hint="kleiber classify RUN series.npy   without --stream",
        )
    if file != STANDARD_INPUT and not Path(file).is_file():
        raise DataError(f"'{file}' is no file.", hint=f"kleiber classify {classifier.folder} - --stream")
    reader = classifier.reader
    if not isinstance(reader, SoundReader):
        yield from _texts(file, standard_input)
        return
    rate = reader.mel.sample_rate
    num = max(1, rate * num_ms // 1000)
    waves = _raw(standard_input, num) if file == STANDARD_INPUT else reader.pieces(Path(file), num)
    num_samples = 0
    for wave_L in waves:
        num_samples += len(wave_L)
        yield f"{num_samples / rate:8.2f} s", wave_L


def _texts(file: str, standard_input: BinaryIO) -> Iterator[tuple[str, str]]:
    if file == STANDARD_INPUT:
        yield from _text_pieces(file, standard_input)
        return
    with Path(file).open("rb") as opened:
        yield from _text_pieces(file, opened)


def _text_pieces(name: str, stream: BinaryIO) -> Iterator[tuple[str, str]]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    num_chars, read = 0, getattr(stream, "read1", stream.read)
    is_open = True
    while is_open:
        arrived = read(_BYTES)
        is_open = bool(arrived)
        try:
            piece = decoder.decode(arrived, final=not is_open)
        except UnicodeDecodeError:
            raise DataError(f"'{name}' is not text in UTF-8.", hint="iconv -t UTF-8") from None
        if piece:
            num_chars += len(piece)
            yield f"{num_chars:8,} characters", piece


def _raw(stream: BinaryIO, num_samples: int) -> Iterator[npt.NDArray[np.float32]]:
    """Yield samples [L] between -1 and 1; an odd byte at the end is half of a sample and left out."""
    is_first = True
    while arrived := stream.read(2 * num_samples):
        if is_first and arrived.startswith(b"RIFF"):
            raise DataError(
                "standard input is a WAV file, and sound on standard input is samples alone: 16 bits, one channel.",
                hint="sox sound.wav -t raw -b 16 -e signed -c 1 - | kleiber classify RUN - --stream",
            )
        is_first = False
        whole = arrived[: len(arrived) // 2 * 2]
        yield np.frombuffer(whole, "<i2").astype(np.float32) / np.float32(_FULL_SCALE)
