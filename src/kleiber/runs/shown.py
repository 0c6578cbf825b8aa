"""What a person is shown of a model: a sample, what was expected, what was predicted."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from kleiber.errors import RunFolderError
from kleiber.runs.document import Document
from kleiber.runs.files import read_lines, write_text

__all__ = ["Shown", "read_shown", "write_shown"]


class Shown(Document):
    """One prediction."""

    text: str | None = None
    """The sample as text: its words, or its columns."""
    image_png: str | None = None
    """The sample as a picture, PNG in base64."""
    expected: str
    predicted: str
    is_right: bool | None = None
    """None where a prediction is near or far, not right or wrong."""
    confidence_frac: float | None = None
    """Probability that the model gave to what it predicted."""


def write_shown(path: Path, shown: Iterable[Shown]) -> None:
    """Write one prediction a line.

    Raises:
        StorageError: The disk refused.
    """
    write_text(
        path, "".join(json.dumps(one.model_dump(mode="json", exclude_none=True)) + "\n" for one in shown)
    )


def read_shown(path: Path) -> list[Shown]:
    """Return the predictions in a file; none when there is no file.

    Raises:
        RunFolderError: A line does not parse.
    """
    return [
        Shown.of(raw, f"{path} line {number}", RunFolderError)
        for number, raw in enumerate(read_lines(path), start=1)
    ]
