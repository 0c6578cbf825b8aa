"""One pass over a split: what a model says of each sample.

Legend: N samples of the split, B of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from kleiber.data import Batch, Data, Split
from kleiber.errors import DataError

__all__ = [
    "INPUT_ROLES",
    "VAL_SAMPLES",
    "evaluated_split",
    "evaluating",
    "gathered",
    "model_inputs",
    "outputs_on",
    "split_batches",
    "tensor",
]

VAL_SAMPLES = 128
"""Samples of an evaluation batch: enough that a small model's time is not Python's, and no more memory than a step has."""

INPUT_ROLES = ("images", "features", "series", "tokens")
"""What goes into a module that returns outputs of a sample, in the order of its arguments."""


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Turn dropout and gradients off; the module's mode is as before afterwards."""
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(was_training)


def tensor(batch: Batch, role: str) -> Tensor:
    """Return an array of a batch as a tensor that shares its memory."""
    return torch.from_numpy(batch.arrays[role])


def model_inputs(batch: Batch) -> list[Tensor]:
    """Return what goes into a module, in the order of its arguments."""
    return [tensor(batch, role) for role in INPUT_ROLES if role in batch.arrays]


def split_batches(data: Data, split: Split) -> Iterator[Batch]:
    """Return the batches of one pass over a split.

    Raises:
        DataError: The data have no such split to be measured on.
    """
    meta = data.meta
    if not {"val": meta.num_val_tokens, "test": meta.num_test_tokens}.get(split):
        raise DataError(
            f"data.source '{meta.source}' has no {split} split to be measured on.",
            hint="--set data.test_frac=0.1   holds one out",
        )
    return data.batches(split, 0, VAL_SAMPLES)


def outputs_on(
    module: nn.Module, data: Data, split: Split, *, kept: str, most: int | None = None
) -> tuple[Tensor, npt.NDArray[Any]]:
    """Return the outputs [N, K] of a module in evaluation mode on a split, and the array `kept` of it.

    Args:
        module: Returns [B, K].
        data: Where the samples are.
        split: One pass over it.
        kept: Role of an array that is returned beside the outputs.
        most: Samples after which to stop; None takes all.
    """
    outputs: list[Tensor] = []
    arrays: list[npt.NDArray[Any]] = []
    with evaluating(module):
        for batch in split_batches(data, split):
            outputs.append(module(*model_inputs(batch)))
            arrays.append(batch.arrays[kept])
            if most is not None and batch.cursor >= most:
                break
    return torch.cat(outputs)[:most], np.concatenate(arrays)[:most]


def gathered(data: Data, split: Split, indices: Sequence[int]) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of these samples of a split, by role, in this order."""
    rows: dict[int, Mapping[str, npt.NDArray[Any]]] = {}
    for batch in split_batches(data, split):
        start = batch.cursor - len(batch)
        for index in indices:
            if start <= index < batch.cursor:
                rows[index] = {role: array[index - start] for role, array in batch.arrays.items()}
        if batch.cursor > max(indices):
            break
    return {role: np.stack([rows[index][role] for index in indices]) for role in rows[indices[0]]}


def evaluated_split(data: Data) -> Split:
    """Return the split that a person is shown samples of: the test split, or validation without one."""
    return "test" if data.meta.num_test_tokens else "val"
