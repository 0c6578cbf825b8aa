"""Mix each sample, and what is asked of it, with another.

Shapes: B samples of a batch, N that are mixed, K classes or values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from kleiber.data.augment.draws import Draws
from kleiber.errors import RecipeError

__all__ = ["mixup", "soft_labels", "symmetric_beta"]

_ALPHA = 0.2


def mixup(
    arrays: Mapping[str, npt.NDArray[Any]],
    chosen_B: npt.NDArray[np.bool_],
    strength: float,
    draws: Draws,
    *,
    num_outputs: int,
) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays with the chosen samples mixed into the ones before them, in shares of Beta(a, a), a = 0.2 `strength`.

    A sample's partner is the one before it in the (micro-)batch, whose order is random; the first one's is the last. Labels
    become the probabilities of all classes, [B, K] float32, for all samples.

    Args:
        arrays: What goes in, with `labels` or `values`; numbers that are not whole are mixed.
        chosen_B: Which samples are mixed.
        strength: 5 makes all shares equally likely.
        draws: Of the chosen samples.
        num_outputs: K; of a single output the label is the probability.

    Raises:
        RecipeError: There is one sample, which has no partner.

    Source:
        Zhang et al. 2018, arXiv:1710.09412, equation 2.
    """
    if len(chosen_B) < 2:
        raise RecipeError(
            "the augmentation mixup needs two samples or more in a micro-batch.",
            got=len(chosen_B),
            hint="--set train.accumulation=1",
        )
    share_B = np.ones(len(chosen_B))
    share_B[chosen_B] = symmetric_beta(_ALPHA * strength, draws)
    mixed = dict(arrays)
    if "labels" in mixed:
        mixed["labels"] = soft_labels(mixed["labels"], num_outputs)
    for role, array in mixed.items():
        if array.dtype.kind != "f":
            continue
        share = share_B.astype(array.dtype).reshape(-1, *[1] * (array.ndim - 1))
        mixed[role] = share * array + (1 - share) * np.roll(array, 1, axis=0)
    return mixed


def soft_labels(labels_B: npt.NDArray[Any], num_outputs: int) -> npt.NDArray[np.float32]:
    """Return labels as probabilities [B, K]; those that are already stay.

    Example:
        >>> soft_labels(np.array([1, 0]), 2).tolist(), soft_labels(np.array([1, 0]), 1).tolist()
        ([[0.0, 1.0], [1.0, 0.0]], [[1.0], [0.0]])
    """
    if labels_B.ndim == 2:
        return labels_B
    if num_outputs == 1:
        return labels_B.astype(np.float32)[:, None]
    one_hot: npt.NDArray[np.float32] = np.eye(num_outputs, dtype=np.float32)[labels_B]
    return one_hot


def symmetric_beta(a: float, draws: Draws) -> npt.NDArray[np.float64]:
    """Return a number in [0, 1] of Beta(a, a) for each sample, out of two uniform ones.

    Source:
        Devroye 1996, "Random variate generation in one line of code", section on the symmetric beta: Bailey's (1994)
        Student t of 2a degrees, mapped to a beta.
    """
    u, v = 1 - draws.uniform(), draws.uniform()
    cosine = np.cos(2 * np.pi * v)
    with np.errstate(over="ignore", divide="ignore"):  # far out in the tail the share is 0 or 1
        half = 0.5 / np.sqrt(1 + 1 / ((u ** (-1 / a) - 1) * cosine**2))
    share: npt.NDArray[np.float64] = 0.5 + np.copysign(half, cosine)
    return share
