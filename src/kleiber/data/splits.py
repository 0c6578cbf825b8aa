"""Which samples are held out: a pure function of how many there are, of their labels and of their groups."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kleiber.data.batches import sequence_order
from kleiber.data.source import Part
from kleiber.errors import DataError
from kleiber.runs.recipe import DataRecipe

__all__ = ["carved", "fixed_order", "held_out"]

_SEED = 0
"""Of every split: a run's seed must not change what it is measured on."""

_VAL_STREAM, _TEST_STREAM = 0, 1


def fixed_order(num: int, *, stream: int) -> npt.NDArray[np.intp]:
    """Return `num` indices in an order that never changes; each `stream` has its own."""
    return sequence_order(num, _SEED, stream)


def carved(parts: dict[str, Part], recipe: DataRecipe, *, is_carved: bool = False) -> dict[str, Part]:
    """Return the splits with `test` (where `data.test_frac` asks for it) and `val` taken out of `train` where they are missing.

    Whoever fits something to the training samples alone before the front door sees them calls this too, and gets the same.

    Args:
        parts: As the source gives them.
        recipe: How much is held out.
        is_carved: Whether the source has held it out itself.

    Raises:
        DataError: There is a test split already, a single sample, or all samples are near-duplicates of each other.
    """
    if is_carved:
        return parts
    parts = dict(parts)
    if recipe.test_frac and "test" in parts:
        raise DataError(
            f"data.test_frac has no effect: '{recipe.source}' has a test split of its own.",
            got=recipe.test_frac,
            hint="--set data.test_frac=0",
        )
    for name, frac, stream in (
        ("test", recipe.test_frac, _TEST_STREAM),
        ("val", recipe.val_frac, _VAL_STREAM),
    ):
        if frac and name not in parts:
            train = parts["train"]
            if len(train) < 2:
                raise DataError(
                    f"data.source '{recipe.source}' has a single training sample, which cannot be both learnt from and held "
                    "out.",
                    hint="name a source with more samples",
                )
            stay, held = held_out(len(train), frac, labels=train.labels, groups=train.groups, stream=stream)
            if not len(stay) or not len(held):
                raise DataError(
                    f"data.source '{recipe.source}' cannot be split into train and {name}: its {len(train):,} "
                    "training samples are near-duplicates of each other, or the only ones of their classes.",
                    hint="name a source with more samples",
                )
            parts["train"], parts[name] = train.take(stay), train.take(held)
    return parts


def held_out(
    num: int,
    frac: float,
    *,
    labels: npt.NDArray[np.int64] | None = None,
    groups: npt.NDArray[np.int64] | None = None,
    stream: int = 0,
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the indices that stay and those that are held out, each ascending.

    Of every class the nearest whole number to `frac` is held out, at least one and never all; without labels, of all samples.
    Groups are held out whole or not at all, as many as fit in that number, the smallest when none does.

    Args:
        num: Samples, at least 2; 2 of each class that occurs.
        frac: Between 0 and 1.
        labels: Classes [num]; a group counts as of the class of its first sample.
        groups: Near-duplicates [num]: samples with one number belong together. None: each sample is on its own.
        stream: Splits of one source take different ones.

    Example:
        >>> stay, held = held_out(10, 0.2, labels=np.array([0, 1] * 5))
        >>> len(stay), sorted((held % 2).tolist())
        (8, [0, 1])
    """
    order = fixed_order(num, stream=stream)
    if groups is not None:
        return _held_out_groups(order, frac, labels, groups)
    is_held = np.zeros(num, bool)
    strata = [order] if labels is None else [order[labels[order] == label] for label in np.unique(labels)]
    for stratum in strata:
        is_held[stratum[: min(max(1, round(frac * len(stratum))), len(stratum) - 1)]] = True
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)


def _held_out_groups(
    order: npt.NDArray[np.intp],
    frac: float,
    labels: npt.NDArray[np.int64] | None,
    groups: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    _, first_rank, own, sizes = np.unique(
        groups[order], return_index=True, return_inverse=True, return_counts=True
    )
    by_rank = np.argsort(first_rank)
    group_labels = np.zeros(len(sizes), np.int64) if labels is None else labels[order[first_rank]]
    is_held_group = np.zeros(len(sizes), bool)
    for label in np.unique(group_labels):
        stratum = by_rank[group_labels[by_rank] == label]
        if len(stratum) < 2:
            continue
        budget = max(1, round(frac * int(sizes[stratum].sum())))
        if sizes[stratum].min() > budget:
            is_held_group[stratum[np.argmin(sizes[stratum])]] = True
        num_staying = len(stratum)
        for group in stratum.tolist():
            if sizes[group] <= budget and num_staying > 1:
                budget -= int(sizes[group])
                num_staying -= 1
                is_held_group[group] = True
    is_held = np.zeros(len(order), bool)
    is_held[order] = is_held_group[own]
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)
