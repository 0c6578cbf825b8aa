"""The numbers that go into each layer, on calibration data: what static int8 spreads its steps over.

Legend: N rows that enter a layer, C columns, K bins.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from kleiber.compress.inputs import visit_inputs
from kleiber.compress.quantize.clipping import Clipping
from kleiber.data import Batch

__all__ = ["input_ranges", "range_of_histogram"]

Range: TypeAlias = tuple[float, float]
"""The least and the greatest number that goes into a layer."""

_NUM_BINS = 2048
_NUM_STEPS = 255
"""Of int8, between its ends."""
_SHRINKAGES = tuple(1 - step / 100 for step in range(96))


def input_ranges(
    module: nn.Module, batches: Sequence[Batch], names: Collection[str], clipping: Clipping, percentile: float
) -> dict[str, Range]:
    """Return the range of what goes into each layer; a layer that saw nothing is left out.

    Args:
        module: As it will be used.
        batches: Gone through once, and again where not all of the range is taken.
        names: Of weights.
        clipping: All that was seen, its middle `percentile` per cent, or what gives the least squared error in 256 steps.
        percentile: Of that one only.
    """
    ends: dict[str, Range] = {}

    def widen(name: str, x_NC: Tensor) -> None:
        low, high = ends.get(name, (0.0, 0.0))  # 0 is exact in every range: padding and pruned channels are
        ends[name] = (min(low, float(x_NC.min())), max(high, float(x_NC.max())))

    visit_inputs(module, batches, names, widen)
    if clipping == "minmax":
        return ends
    counts: dict[str, Tensor] = {}

    def count(name: str, x_NC: Tensor) -> None:
        low, high = ends[name]
        found_K = torch.histc(x_NC, _NUM_BINS, low, high).double()
        counts[name] = counts[name] + found_K if name in counts else found_K

    visit_inputs(module, batches, [name for name, (low, high) in ends.items() if low < high], count)
    found = {name: range_of_histogram(counts[name], *ends[name], clipping, percentile) for name in counts}
    return {name: found.get(name, ends[name]) for name in ends}


def range_of_histogram(
    counts_K: Tensor, low: float, high: float, clipping: Clipping, percentile: float
) -> Range:
    """Return the part of the range from `low` to `high` to keep.

    Args:
        counts_K: Numbers in each of so many equal parts of the range.
        low: Of all numbers; 0 or less.
        high: Of all numbers; 0 or more.
        clipping: `percentile` or `mse`.
        percentile: Per cent of the numbers that are kept, as many left out at either end.

    Example:
        >>> range_of_histogram(torch.tensor([1.0, 8.0, 1.0, 0.0]), -1.0, 3.0, "percentile", 80.0)
        (0.0, 1.0)
    """
    edges_K = torch.linspace(low, high, len(counts_K) + 1, dtype=torch.float64)
    if clipping == "percentile":
        outside = (100 - percentile) / 200 * float(counts_K.sum())
        below_K, above_K = counts_K.cumsum(0), counts_K.flip(0).cumsum(0)
        first, last = int((below_K <= outside).sum()), int((above_K <= outside).sum())
        return min(0.0, float(edges_K[first])), max(0.0, float(edges_K[len(counts_K) - last]))
    middle_K = (edges_K[:-1] + edges_K[1:]) / 2
    best = min(_SHRINKAGES, key=lambda part: _squared_error(counts_K, middle_K, low * part, high * part))
    return low * best, high * best


def _squared_error(counts_K: Tensor, middle_K: Tensor, low: float, high: float) -> float:
    """Return what clipping costs, and rounding: a twelfth of a step squared for each number within."""
    outside_K = middle_K - middle_K.clamp(low, high)
    step = (high - low) / _NUM_STEPS
    return float((counts_K * (outside_K.square() + (outside_K == 0) * step**2 / 12)).sum())
