"""The few samples of the training split that steps look at."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from kleiber.data import Batch, Data
from kleiber.data.batches import num_sequences
from kleiber.data.sample_data import SampleData
from kleiber.errors import DataError, RecipeError
from kleiber.runs import DataShape

__all__ = ["Calibration", "calibration_of"]

_BATCH = 16
"""Samples a batch: little memory where every position of a convolution is laid out."""


@dataclass(frozen=True)
class Calibration:
    """Samples, and what a receipt says of them."""

    batches: tuple[Batch, ...]
    source: str
    """Of the data, as it was typed."""
    num_samples: int
    seed: int
    hash: str
    """Of all arrays, so that it is known whether two compressions saw the same."""
    notes: tuple[str, ...] = ()
    """What a reader of the receipt should know, a sentence each."""


def calibration_of(
    data: Data, num_samples: int = 128, seed: int = 0, *, shape: DataShape | None = None
) -> Calibration:
    """Return samples of the training split, without augmentation.

    Args:
        data: Where they come from.
        num_samples: How many; all of them, with a note, where there are fewer.
        seed: Which: the first samples of the epoch of that number, in the data's own order.
        shape: What the model reads, which the data must be; None does not ask.

    Raises:
        RecipeError: `num_samples` is not positive or the seed is negative.
        DataError: The split is empty, or holds what the model does not read.
    """
    if num_samples < 1 or seed < 0:
        raise RecipeError(
            "calibration takes 1 sample or more and a seed of 0 or more.", got=(num_samples, seed)
        )
    if shape is not None:
        _require_kind(data, shape)
    num_found = _num_train(data)
    if num_found < 1:
        raise DataError(
            f"'{data.meta.source}' has no training samples to calibrate on.",
            got=num_found,
            hint="--recipe recipe.yaml   with data of the kind that the model was trained on",
        )
    taken = min(num_samples, num_found)
    batches = _first(data, taken, cursor=seed * num_found)
    notes = (
        (f"Calibrated on {taken} samples: '{data.meta.source}' has no more, of the {num_samples} asked for.",)
        if taken < num_samples
        else ()
    )
    return Calibration(batches, data.meta.source, taken, seed, _hash(batches), notes)


def _num_train(data: Data) -> int:
    num = data.meta.num_train_tokens
    return num_sequences(num, data.meta.shape.context or 1) if data.meta.unit == "token" else num


def _first(data: Data, num_samples: int, cursor: int) -> tuple[Batch, ...]:
    if isinstance(data, SampleData):
        # What the model will see when it is used, not what made learning harder.
        data = dataclasses.replace(data, augment=(), num_workers=0)
    batches: list[Batch] = []
    while num_samples:
        batch = next(iter(data.batches("train", cursor, min(_BATCH, num_samples))))
        batches.append(batch)
        cursor, num_samples = batch.cursor, num_samples - len(batch)
    return tuple(batches)


def _require_kind(data: Data, shape: DataShape) -> None:
    found = data.meta.shape
    if found.inputs != shape.inputs:
        raise DataError(
            f"calibration data must be {shape.inputs}, which the model reads; '{data.meta.source}' holds {found.inputs}.",
            hint="--recipe recipe.yaml   with data as the model was trained on",
        )
    for size in ("channels", "height", "width", "num_features"):
        if getattr(found, size) != getattr(shape, size):
            raise DataError(
                f"calibration data '{data.meta.source}' must have {size} {getattr(shape, size)}, as the model reads.",
                got=getattr(found, size),
            )
    for size in ("vocab_size", "context"):
        known, asked = getattr(shape, size), getattr(found, size)
        if known is not None and (asked or 0) > known:
            raise DataError(
                f"calibration data '{data.meta.source}' has {size} {asked}, and the model reads at most {known}."
            )


def _hash(batches: Sequence[Batch]) -> str:
    digest = hashlib.sha256()
    for batch in batches:
        for role, array in sorted(batch.arrays.items()):
            digest.update(f"{role} {array.dtype} {array.shape}".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()[:16]
