"""Many files, a batch of samples at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from kleiber.errors import UsageError
from kleiber.infer.classification.answer import Answer
from kleiber.infer.classification.classifier import Classifier
from kleiber.infer.classification.reading import Sample, inputs_in
from kleiber.infer.classification.texts import TextReader, decoded

__all__ = ["STANDARD_INPUT", "answered"]

STANDARD_INPUT = "-"
_BATCH = 32


def answered(
    classifier: Classifier, files: Sequence[str], standard_input: BinaryIO
) -> Iterator[tuple[str, Answer]]:
    """Yield the name of each sample in the files and what the classifier says of it; memory holds a batch of samples.

    Args:
        classifier: Of a run.
        files: Paths; `-` is a text on standard input.
        standard_input: Read to its end where a file is `-`.

    Raises:
        DataError: A file is missing, or does not hold what the model was trained on.
        UsageError: Standard input for a model that does not read text.
    """
    samples = _samples(classifier, files, standard_input)
    while batch := list(islice(samples, _BATCH)):
        answers = classifier.answers([sample.array for sample in batch])
        yield from zip((sample.name for sample in batch), answers, strict=True)


def _samples(classifier: Classifier, files: Sequence[str], standard_input: BinaryIO) -> Iterator[Sample]:
    reader = classifier.reader
    for file in files:
        if file != STANDARD_INPUT:
            yield from inputs_in(reader, [Path(file)])
        elif isinstance(reader, TextReader):
            yield Sample(file, reader.of(decoded(standard_input.read(), "standard input"), "standard input"))
        else:
            raise UsageError(
                f"{classifier.folder} classifies {classifier.record.data.shape.inputs}, and standard input is read as text.",
                hint=f"kleiber classify {classifier.folder} FILE",
            )
