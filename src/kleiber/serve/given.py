"""From what a request holds to what goes into a classifier. Its bytes are somebody's: nothing that they say is believed."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from kleiber.data.table.numbers import MAX_NUMBER
from kleiber.errors import DataError, MissingExtraError, UsageError
from kleiber.infer.classification.arrays import ArrayReader
from kleiber.infer.classification.images import ImageReader
from kleiber.infer.classification.reading import Reader
from kleiber.infer.classification.rows import RowReader
from kleiber.infer.classification.sounds import SoundReader
from kleiber.infer.classification.texts import TextReader, decoded
from kleiber.serve.errors import RefusedError
from kleiber.serve.settings import ServeSettings

__all__ = ["Given", "Reads", "given_in", "given_text", "prepared", "reads"]

Reads: TypeAlias = Literal["text", "image", "sound", "row", "numbers"]
"""What one input of a classifier is."""

_KINDS: dict[type[Any], Reads] = {
    TextReader: "text",
    ImageReader: "image",
    SoundReader: "sound",
    RowReader: "row",
    ArrayReader: "numbers",
}
_AS: dict[Reads, str] = {
    "text": 'a text, such as "input": "a lovely film"',
    "image": 'an image in base64, such as "input": "data:image/png;base64,iVBORw0..."',
    "sound": 'a sound in base64, such as "input": "data:audio/wav;base64,UklGRg..."',
    "row": 'an object, such as "input": {"age": 31, "city": "Oslo"}',
    "numbers": 'an array of numbers, such as "input": [0.1, 0.2]',
}
_IMAGE_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
"""Those whose files the commands read. Pillow knows others, of which one runs a program."""

_MOST_CELLS = 10_000
"""Of a row; columns that the run did not use have no effect, and must not cost much either."""
_MOST_SAID = 500
"""Characters of an error, which may repeat what the client sent."""
_SERVER_FAULT = 500


@dataclass(frozen=True, eq=False)
class Given:
    """One input of a request."""

    name: str
    """What it is called, for errors."""
    value: object
    """A text, the bytes of a file, cells by column, or an array that goes into the model as it is."""


def reads(reader: Reader) -> Reads:
    """Return what one input of a classifier is."""
    return _KINDS[type(reader)]


def given_in(reader: Reader, value: object, settings: ServeSettings) -> list[Given]:
    """Return the inputs in a request's JSON: one, or several in an array.

    Raises:
        RefusedError: They are of another kind or shape than the classifier reads, or too many.
    """
    kind = reads(reader)
    if kind == "numbers" or (kind == "image" and _holds_numbers(value)):
        found = [Given("the input", array) for array in _arrays(reader, value)]
    else:
        several = value if isinstance(value, list) else [value]
        of = len(several) > 1
        found = [
            _one(kind, one, f"input {index + 1}" if of else "the input", settings)
            for index, one in enumerate(several[: settings.max_inputs + 1])
        ]
    if not found:
        raise RefusedError("there is no input.", param="input", hint=_AS[kind])
    if len(found) > settings.max_inputs:
        raise RefusedError(f"a request has at most {settings.max_inputs:,} inputs.", param="input")
    return found


def given_text(text: object, name: str, settings: ServeSettings) -> str:
    """Return a text of a request.

    Raises:
        RefusedError: It is none, is too long, or holds half of a pair of surrogates, which no tokenizer reads.
    """
    if not isinstance(text, str):
        raise RefusedError(f"{name} must be a text.", param="input", got=type(text).__name__)
    if len(text) > settings.max_text_chars:
        raise RefusedError(
            f"{name} is {len(text):,} characters long; at most {settings.max_text_chars:,} are read.",
            param="input",
        )
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RefusedError(f"{name} is no text: it holds half of a surrogate pair.", param="input") from None
    return text


def prepared(reader: Reader, given: Given, settings: ServeSettings) -> npt.NDArray[Any]:
    """Return an input as it goes into the model, without the axis of a batch.

    Raises:
        RefusedError: It is not what the classifier reads, or beyond a limit; or what decodes it is not installed (500).
    """
    try:
        return _prepared(reader, given, settings)
    except MissingExtraError as error:
        raise RefusedError(error.message, status=_SERVER_FAULT, hint=error.hint) from None
    except UsageError as error:
        got = None if len(repr(error.got)) > _MOST_SAID else error.got
        raise RefusedError(error.message[:_MOST_SAID], param="input", got=got) from None


def _prepared(reader: Reader, given: Given, settings: ServeSettings) -> npt.NDArray[Any]:
    value, name = given.value, given.name
    if isinstance(value, np.ndarray):
        return value
    if isinstance(reader, TextReader):
        text = decoded(value, name) if isinstance(value, bytes) else value
        return reader.of(given_text(text, name, settings), name)
    if isinstance(reader, RowReader) and isinstance(value, Mapping):
        return reader.of(value, name)
    if isinstance(reader, ImageReader) and isinstance(value, bytes):
        return reader.of(value, name, max_pixels=settings.max_image_pixels, formats=_IMAGE_FORMATS)
    if isinstance(reader, SoundReader) and isinstance(value, bytes):
        return reader.of(_Content(value), name, max_s=settings.max_sound_s)
    raise RefusedError(f"{name}: this classifier reads {_AS[reads(reader)]}.", param="input")


class _Content(io.BytesIO):
    """Bytes in which a header may send libsndfile before the beginning: it finds itself where it was, and gives up by itself."""

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a place that there is."""
        try:
            return super().seek(offset, whence)
        except ValueError:  # raised in a callback of C it would be printed, and nothing else
            return self.tell()


def _one(kind: Reads, value: object, name: str, settings: ServeSettings) -> Given:
    if kind == "text":
        return Given(name, given_text(value, name, settings))
    if kind == "row" and isinstance(value, dict):
        if len(value) > _MOST_CELLS:
            raise RefusedError(f"{name} has more than {_MOST_CELLS:,} cells.", param="input", got=len(value))
        return Given(name, {column: _cell(cell, column, name) for column, cell in value.items()})
    if kind in ("image", "sound") and isinstance(value, str):
        return Given(name, _bytes_of(value, name, kind))
    raise RefusedError(f"{name} must be {_AS[kind]}.", param="input", got=type(value).__name__)


def _cell(cell: object, column: str, name: str) -> object:
    is_number = isinstance(cell, int | float)
    if (is_number and abs(cell) <= MAX_NUMBER) or cell is None or isinstance(cell, str):  # type: ignore[arg-type] # a number
        return cell
    raise RefusedError(
        f"{name}: the cell {column[:100]!r} must be a finite number, a text, true, false or null.",
        param="input",
    )


def _bytes_of(url: str, name: str, kind: Reads) -> bytes:
    """Return the bytes in a data URL; no other URL is ever fetched.

    Source:
        RFC 2397.
    """
    head, comma, data = url.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        raise RefusedError(f"{name} must be {_AS[kind]}; nothing is fetched.", param="input", got=url[:40])
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise RefusedError(f"{name} is not valid base64.", param="input") from None


def _holds_numbers(value: object) -> bool:
    """Return whether JSON is an array of arrays or numbers, and not of texts."""
    return isinstance(value, list) and bool(value) and not isinstance(value[0], str)


def _arrays(reader: Reader, value: object) -> npt.NDArray[np.float32]:
    """Return samples as they go into the model, along the first axis."""
    arrays = reader.arrays if isinstance(reader, ImageReader) else reader
    if not isinstance(arrays, ArrayReader):
        raise TypeError("what reads numbers is an ArrayReader")
    numbers = _numbers(value)
    try:
        return arrays.of(numbers, "the input")
    except DataError as error:
        raise RefusedError(error.message, param="input", got=error.got, hint=_AS["numbers"]) from None


def _numbers(value: object) -> npt.NDArray[Any]:
    try:
        # No type is asked for: numpy would read numbers out of texts.
        array = np.array(value) if isinstance(value, Sequence) else np.array("")
    except (ValueError, OverflowError, RecursionError):
        array = np.array("")
    if array.dtype.kind not in "biuf":
        raise RefusedError(
            "the input must be an array of numbers, its rows of one length.",
            param="input",
            hint=_AS["numbers"],
        )
    return array
