"""From a classifier to one of what arrives in pieces."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kleiber.errors import UsageError
from kleiber.infer.classification import Answer, Classifier
from kleiber.infer.classification.normalizing import normalization_of
from kleiber.infer.classification.sounds import SoundReader
from kleiber.infer.classification.texts import TextReader
from kleiber.infer.streaming.recurrent import RecurrentReader
from kleiber.infer.streaming.stream import SeriesStream, SoundStream, TextClassifierStream
from kleiber.models.rnn.module import RNN

__all__ = ["open_stream"]


def open_stream(classifier: Classifier) -> TextClassifierStream | SoundStream | SeriesStream:
    """Return a stream that the classifier reads: text, samples of sound, or rows of a series, as its run learnt.

    A model of the family rnn keeps its state, computed by torch whatever the engine; any other reads its last window anew for
    each answer, by the classifier's engine.

    Raises:
        UsageError: The run's samples do not arrive in pieces: images, or rows of a table.
    """

    def says(outputs_1C: npt.NDArray[np.floating]) -> Answer:
        return classifier.answers_of(outputs_1C)[0]

    def predicts(one: npt.NDArray[Any]) -> Answer:
        return classifier.answers([one])[0]

    module, meta = classifier.module, classifier.record.data
    recurrent = RecurrentReader(module) if isinstance(module, RNN) else None
    if meta.shape.inputs == "series":
        normalization = normalization_of(meta, "series")
        context = meta.shape.context or 1
        return SeriesStream(normalization, context, recurrent=recurrent, says=says, predicts=predicts)
    reader = classifier.reader
    if isinstance(reader, TextReader):
        return TextClassifierStream(reader.texts, recurrent=recurrent, says=says, predicts=predicts)
    if isinstance(reader, SoundReader):
        return SoundStream(reader, predicts)
    raise UsageError(
        f"{classifier.folder} classifies {meta.shape.inputs}, which do not arrive in pieces.",
        hint=f"kleiber classify {classifier.folder} FILE   without --stream",
    )
