"""Less data on purpose: thinning out the rarer class, and choosing what is learnt from.

What is chosen of a smaller `max_samples` is among what is chosen of a larger one, so that a ladder over the amount of data
adds samples and swaps none.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kleiber.data.source import Part
from kleiber.data.splits import fixed_order
from kleiber.errors import DataError
from kleiber.runs.recipe import DataRecipe

__all__ = ["selected", "thinned"]

_THIN_STREAM, _SELECT_STREAM = 2, 3


def thinned(parts: dict[str, Part], frac: float, *, source: str) -> dict[str, Part]:
    """Return every split with the class that is rarer in train brought down to `frac` of its samples.

    Raises:
        DataError: There are not two classes, the share is not above `frac`, or a split would keep no sample of the class.
    """
    labels = parts["train"].labels
    counts = np.zeros(0) if labels is None else np.bincount(labels)
    if np.count_nonzero(counts) != 2:
        raise DataError(
            f"data.positive_frac thins out the rarer of two classes, and '{source}' has "
            f"{np.count_nonzero(counts)}.",
            got=frac,
            hint="--set data.positive_frac=null",
        )
    present = np.flatnonzero(counts)
    rarer = int(present[np.argmin(counts[present])])
    return {name: _thinned_part(name, part, rarer, frac, source) for name, part in parts.items()}


def _thinned_part(name: str, part: Part, rarer: int, frac: float, source: str) -> Part:
    assert part.labels is not None  # noqa: S101 - checked of train; all splits of a source are alike
    is_rarer = part.labels == rarer
    num = round(np.count_nonzero(~is_rarer) * frac / (1 - frac))
    share = np.count_nonzero(is_rarer) / len(part)
    if num > np.count_nonzero(is_rarer):
        raise DataError(
            f"data.positive_frac must be at most the share that the rarer class has in the {name} split of "
            f"'{source}', {share:.4g}.",
            got=frac,
            hint=f"--set data.positive_frac={share / 2:.2g}",
        )
    if num == 0:
        raise DataError(
            f"data.positive_frac would leave the {name} split of '{source}', {len(part):,} samples, without a "
            "single one of the rarer class.",
            got=frac,
            hint=f"--set data.positive_frac={share / 2:.2g}   or a larger data.val_frac",
        )
    order = fixed_order(len(part), stream=_THIN_STREAM)
    kept = order[is_rarer[order]][:num]
    return part.take(np.sort(np.concatenate([np.flatnonzero(~is_rarer), kept])))


def selected(train: Part, recipe: DataRecipe) -> Part:
    """Return the training samples that `data.max_samples` and `data.selection` keep.

    Raises:
        DataError: There are fewer, or nothing to select by.
    """
    if recipe.max_samples is None and recipe.selection == "random":
        return train
    if recipe.max_samples is not None and recipe.max_samples > len(train):
        raise DataError(
            f"data.max_samples must be at most the {len(train):,} training samples of '{recipe.source}'.",
            got=recipe.max_samples,
            hint="--set data.max_samples=null   to take all",
        )
    if recipe.selection == "balanced":
        return train.take(np.sort(_balanced(train, recipe)))
    if recipe.max_samples is None:
        raise DataError(
            f"data.selection '{recipe.selection}' needs data.max_samples: how many are kept.",
            hint=f"--set data.max_samples={max(1, len(train) // 2)}",
        )
    return train.take(np.sort(_preferred(train, recipe)[: recipe.max_samples]))


def _preferred(train: Part, recipe: DataRecipe) -> npt.NDArray[np.intp]:
    order = fixed_order(len(train), stream=_SELECT_STREAM)
    if recipe.selection == "random":
        return order
    if train.lengths is None:
        raise DataError(
            f"data.selection '{recipe.selection}' goes by the length of texts, and the samples of "
            f"'{recipe.source}' have none.",
            hint="--set data.selection=random",
        )
    lengths = train.lengths[order]
    return order[np.argsort(lengths if recipe.selection == "shortest" else -lengths, kind="stable")]


def _balanced(train: Part, recipe: DataRecipe) -> npt.NDArray[np.intp]:
    """Return as many of each class, one more of the first classes where the number does not divide."""
    if train.labels is None:
        raise DataError(
            f"data.selection 'balanced' goes by class, and the samples of '{recipe.source}' have none.",
            hint="--set data.selection=random",
        )
    present, counts = np.unique(train.labels, return_counts=True)
    most = len(present) * int(counts.min())
    num = most if recipe.max_samples is None else recipe.max_samples
    if not len(present) <= num <= most:
        raise DataError(
            f"data.max_samples must lie between {len(present)} and {most} for as many of each of "
            f"{len(present)} classes, of which the rarest has {counts.min()} training samples.",
            got=num,
            hint=f"--set data.max_samples={most}",
        )
    order = fixed_order(len(train), stream=_SELECT_STREAM)
    own = [order[train.labels[order] == label] for label in present]
    shares = [num // len(present) + (rank < num % len(present)) for rank in range(len(present))]
    return np.concatenate([group[:share] for group, share in zip(own, shares, strict=True)])
