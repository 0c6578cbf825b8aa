"""Samples as a person sees them: pictures, words, numbers in their own units.

Legend: B samples, C channels, H height, W width, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from kleiber.data import Data
from kleiber.data.sample_data import SampleData
from kleiber.data.tokenizer import load_tokenizer
from kleiber.tasks.png import png_base64

__all__ = ["MAX_POOL", "pictures", "reader_of", "sample_fields", "shortened", "written", "wrong_first"]

MAX_POOL = 1024
"""Samples among which the ones that are shown are looked for."""

_MAX_NUMBERS = 12
"""Columns of a table, or steps of a series, that are written out."""
_MAX_CHARS = 600

Arrays = Mapping[str, npt.NDArray[Any]]
Reader = Callable[[npt.NDArray[np.int64]], list[str]]


def wrong_first(is_right_N: npt.NDArray[np.bool_], num: int) -> list[int]:
    """Return which samples to show: wrong ones first, then right ones, half of each where there are enough.

    Each in the split's own order: nothing is picked by hand.

    Example:
        >>> wrong_first(np.array([True, False, True, True, False, False]), 4)
        [1, 4, 0, 2]
    """
    wrong, right = np.flatnonzero(~is_right_N), np.flatnonzero(is_right_N)
    num_wrong = max(num - len(right), num - num // 2)
    wrong = wrong[:num_wrong]
    return [*wrong.tolist(), *right[: num - len(wrong)].tolist()]


def sample_fields(arrays: Arrays, data: Data) -> list[dict[str, str]]:
    """Return each sample as the fields of `Shown` that hold it: `image_png`, `text`, or both.

    Args:
        arrays: By role, as in a batch.
        data: Whose normalization is undone, and whose tokenizer reads the tokens.
    """
    columns = {}
    raw = _as_they_were(arrays, data)
    if "images" in raw:
        columns["image_png"] = pictures(raw["images"])
    for role in ("tokens", "source"):
        if role in raw:
            columns["text"] = [shortened(text) for text in reader_of(data)(raw[role])]
    for role in ("features", "series"):
        if role in raw:
            columns["text"] = [written(numbers.ravel()) for numbers in raw[role]]
    return [dict(zip(columns, fields, strict=True)) for fields in zip(*columns.values(), strict=True)]


def _as_they_were(arrays: Arrays, data: Data) -> dict[str, npt.NDArray[Any]]:
    undone = data.normalizations if isinstance(data, SampleData) else {}
    return {role: undone[role].undo(array) if role in undone else array for role, array in arrays.items()}


def pictures(images_BCHW: npt.NDArray[np.floating[Any]]) -> list[str]:
    """Return images as PNG in base64, black at the lowest value of all of them and white at the highest."""
    low, high = float(images_BCHW.min()), float(images_BCHW.max())
    scaled = (images_BCHW - low) * (255 / ((high - low) or 1.0))
    return [png_base64(image_CHW) for image_CHW in np.rint(scaled).astype(np.uint8)]


def reader_of(data: Data) -> Reader:
    """Return what turns token ids [B, T] into words; of data without a tokenizer, into numbers."""
    if data.tokenizer_path is None:
        return lambda tokens_BT: [written(tokens_T) for tokens_T in tokens_BT]
    tokenizer = load_tokenizer(data.tokenizer_path.parent)
    return lambda tokens_BT: [text.strip() for text in tokenizer.decode_batch(tokens_BT.tolist())]


def shortened(text: str) -> str:
    """Return a text as a table has room for it.

    Example:
        >>> shortened("short"), len(shortened("long " * 1000))
        ('short', 602)
    """
    return text if len(text) <= _MAX_CHARS else f"{text[:_MAX_CHARS]} …"


def written(numbers: npt.NDArray[Any]) -> str:
    """Return numbers as text, of many the last ones: those nearest to what is predicted of a series.

    Example:
        >>> written(np.array([0.5, 1234.5678]))
        '0.5, 1234.57'
    """
    shown = ", ".join(f"{number:.6g}" for number in numbers[-_MAX_NUMBERS:])
    return shown if len(numbers) <= _MAX_NUMBERS else f"… {shown}"
