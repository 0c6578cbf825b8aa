"""From a file to inputs, as the data of a run became them: which reader suits a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from kleiber.data.spectrograms import Mel, noted_rate
from kleiber.data.text_tokenizer import saved_tokenizer
from kleiber.errors import DataError
from kleiber.infer.classification.arrays import ArrayReader
from kleiber.infer.classification.images import ImageReader, holds_pixels
from kleiber.infer.classification.normalizing import normalization_of
from kleiber.infer.classification.rows import RowReader, fitted_columns
from kleiber.infer.classification.sounds import SoundReader
from kleiber.infer.classification.texts import FramedTexts, TextReader
from kleiber.infer.vocabulary import require_known_tokens
from kleiber.runs import Record, RunFolder

__all__ = ["Reader", "Sample", "inputs_in", "reader_of"]


@dataclass(frozen=True)
class Sample:
    """One thing to classify."""

    name: str
    """Of the file, and of the row or index in it where it holds several."""
    array: npt.NDArray[Any]
    """What goes into the model, without the axis of a batch."""


class Reader(Protocol):
    """Makes inputs of files."""

    @property
    def suffixes(self) -> frozenset[str]:
        """Of the files that it reads, lower case, with the dot; empty takes any."""
        ...

    def read(self, path: Path) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        """Yield each sample of a file: what it is called, and what goes into the model.

        Raises:
            DataError: The file does not hold what the model was trained on.
        """
        ...


def reader_of(folder: Path, record: Record) -> Reader:
    """Return what makes inputs of files as the data of a run became them.

    Args:
        folder: Of the run: texts are read by the tokenizer beside its model.
        record: Of the run: inputs are normalized as it says.

    Raises:
        DataError: Rows of a table need what was fitted to the run's table, and it is not at hand; or the tokenizer is missing or
            not the model's own.
    """
    meta, shape = record.data, record.data.shape
    if shape.inputs == "tokens":
        model = RunFolder(folder).find_model()
        tokenizer = saved_tokenizer(model)
        require_known_tokens(tokenizer, shape.vocab_size, model)
        return TextReader(FramedTexts(tokenizer, shape.context or 1), record.recipe.data.field)
    normalization = normalization_of(meta, shape.inputs)
    if shape.inputs == "features" and record.recipe.data.source.partition(":")[0] in (
        "csv",
        "jsonl",
        "parquet",
        "hf",
    ):
        return RowReader(fitted_columns(record.recipe), normalization)
    arrays = ArrayReader(shape, normalization)
    if shape.inputs != "images":
        return arrays
    rate = noted_rate(meta.notes)
    if rate is not None:
        return SoundReader(Mel(rate), shape.width or 1, normalization)
    image_size = record.recipe.data.image_size
    return (
        ImageReader(shape, normalization, arrays, image_size=image_size) if holds_pixels(record) else arrays
    )


def inputs_in(reader: Reader, paths: list[Path]) -> Iterator[Sample]:
    """Yield the samples of files, in order.

    Raises:
        DataError: A file is missing, or not of the kind that the model was trained on.
    """
    for path in paths:
        if not path.is_file():
            raise DataError(
                f"'{path}' is no file.", hint="kleiber classify RUN FILE...   or - for standard input"
            )
        if reader.suffixes and path.suffix.lower() not in reader.suffixes:
            raise DataError(
                f"'{path}' is not of the kind that the model was trained on, which ends in "
                f"{', '.join(sorted(reader.suffixes))}.",
                got=path.suffix,
            )
        yield from (Sample(name, array) for name, array in reader.read(path))
