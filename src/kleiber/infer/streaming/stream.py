"""Classifiers of what arrives in pieces: text, sound, rows of a series.

Legend: B batch of one, L samples of a sound, M mel bands, T steps (tokens, frames, rows) of the model, F features of a row.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from kleiber.data.normalization import Normalization
from kleiber.errors import DataError, UsageError
from kleiber.infer.classification.answer import Answer
from kleiber.infer.classification.sounds import SoundReader
from kleiber.infer.classification.texts import FramedTexts
from kleiber.infer.streaming.frames import FrameStream
from kleiber.infer.streaming.recurrent import RecurrentReader, RecurrentState
from kleiber.infer.streaming.words import WordStream

__all__ = ["SeriesStream", "SoundStream", "StreamClassifier", "TextClassifierStream"]

PieceT_contra = TypeVar("PieceT_contra", contravariant=True)
Says = Callable[[npt.NDArray[np.floating]], Answer]
"""From outputs of the model [1, C] to an answer."""
Predicts = Callable[[npt.NDArray[Any]], Answer]
"""From one prepared input to an answer."""


class StreamClassifier(Protocol[PieceT_contra]):
    """Takes pieces of any size; what it holds does not grow with what it has read."""

    @property
    def is_exact(self) -> bool:
        """Whether an answer is that to everything that was read; else it is that to the last window of it."""
        ...

    def push(self, piece: PieceT_contra) -> None:
        """Read a piece."""
        ...

    def answer(self) -> Answer | None:
        """Return the answer to what was read, as if it ended here; None while that is too little. More may follow."""
        ...


class TextClassifierStream:
    """Text in pieces that may end anywhere, inside a word too.

    Args:
        texts: Tokenizer and context.
        recurrent: Reads on from its state; None reads the last tokens that the context has room for anew for each answer.
        says: Of outputs of a recurrent model.
        predicts: Of a window of tokens, framed and padded [T].
    """

    def __init__(
        self, texts: FramedTexts, *, recurrent: RecurrentReader | None, says: Says, predicts: Predicts
    ) -> None:
        self._texts = texts
        self._words = WordStream(texts.tokens_of)
        self._recurrent, self._says, self._predicts = recurrent, says, predicts
        self._state = RecurrentState()
        self._window: deque[int] = deque(maxlen=texts.room)
        self._num_tokens = 0
        if recurrent is not None:
            self._state = recurrent.read(self._state, _tokens(texts.tokenizer.prefix))

    @property
    def is_exact(self) -> bool:
        """Whether an answer is that to the whole text."""
        return self._recurrent is not None

    def push(self, piece: str) -> None:
        """Read a piece of text."""
        tokens = self._words.push(piece)
        self._num_tokens += len(tokens)
        if self._recurrent is not None:
            self._state = self._recurrent.read(self._state, _tokens(tokens))
        else:
            self._window.extend(tokens)

    def answer(self) -> Answer | None:
        """Return the answer to the text so far; None where no token was read."""
        unfinished = self._words.unfinished()
        if not self._num_tokens + len(unfinished):
            return None
        if self._recurrent is not None:
            end = _tokens((*unfinished, *self._texts.tokenizer.suffix))
            return self._says(self._recurrent.outputs(self._recurrent.read(self._state, end)))
        last = [*self._window, *unfinished][-self._texts.room :]
        return self._predicts(self._texts.framed(last))


class SoundStream:
    """Samples of a sound: an answer is that to the last frames that the model reads.

    Until the sound is that long, silence stands behind it, as behind the short sounds that the run learnt from.

    Args:
        reader: Of the run.
        predicts: Of a spectrogram [1, M, T].
    """

    is_exact = False

    def __init__(self, reader: SoundReader, predicts: Predicts) -> None:
        self._reader, self._predicts = reader, predicts
        self._frames = FrameStream(reader.mel)
        self._window: deque[npt.NDArray[np.float32]] = deque(maxlen=reader.num_frames)

    def push(self, piece: npt.NDArray[np.float32]) -> None:
        """Read samples [L], between -1 and 1.

        Raises:
            DataError: They are not finite.
        """
        if not np.isfinite(piece).all():
            raise DataError("a piece of the sound holds samples that are not finite.")
        # A second at a time: frames that are to be dropped anyway need no room.
        for start in range(0, len(piece), self._reader.mel.sample_rate):
            part_L = piece[start : start + self._reader.mel.sample_rate].astype(np.float32, copy=False)
            self._window.extend(self._frames.push(part_L).T)

    def answer(self) -> Answer | None:
        """Return the answer to the last frames; None where no sample was read."""
        if not self._frames.num_samples:
            return None
        T = self._reader.num_frames
        frames = list(self._window)
        if len(frames) < T:
            frames += list(self._frames.unfinished().T)[: T - len(frames)]
            frames += list(self._frames.silence(T - len(frames)).T)
        return self._predicts(self._reader.normalized(np.stack(frames, 1)[None]))


class SeriesStream:
    """Rows of a series, in order.

    Args:
        normalization: Of a row's features.
        context: T, rows of a window.
        recurrent: Reads on from its state; None reads the last T rows anew for each answer.
        says: Of outputs of a recurrent model.
        predicts: Of a window [T, F].
    """

    def __init__(
        self,
        normalization: Normalization,
        context: int,
        *,
        recurrent: RecurrentReader | None,
        says: Says,
        predicts: Predicts,
    ) -> None:
        self._normalization, self._context = normalization, context
        self._recurrent, self._says, self._predicts = recurrent, says, predicts
        self._state = RecurrentState()
        self._window: deque[npt.NDArray[np.float32]] = deque(maxlen=context)

    @property
    def is_exact(self) -> bool:
        """Whether an answer is that to all rows."""
        return self._recurrent is not None

    def push(self, piece: npt.NDArray[np.floating]) -> None:
        """Read rows [T, F], as they were before they were normalized.

        Raises:
            UsageError: They have another number of features.
            DataError: They are not finite.
        """
        F = len(self._normalization.offset)
        if piece.ndim != 2 or piece.shape[1] != F:
            raise UsageError(f"a piece of the series must have {F} numbers a row.", got=piece.shape)
        if not np.isfinite(piece).all():
            raise DataError("a piece of the series holds numbers that are not finite.")
        rows_TF = self._normalization.apply(piece[None])[0]
        if self._recurrent is not None:
            self._state = self._recurrent.read(self._state, rows_TF)
        else:
            # Copies: a view would keep the whole piece.
            self._window.extend(row_F.copy() for row_F in rows_TF[-self._context :])

    def answer(self) -> Answer | None:
        """Return the answer; None before the first row, and where a window is read before it is full."""
        if self._recurrent is not None:
            return self._says(self._recurrent.outputs(self._state)) if self._state.num_steps else None
        return self._predicts(np.stack(self._window)) if len(self._window) == self._context else None


def _tokens(tokens: tuple[int, ...] | list[int]) -> npt.NDArray[np.int64]:
    return np.array(tokens, np.int64)
