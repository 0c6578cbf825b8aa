"""The bytes of a weights' file that are no parameters: its header, and tensors that are not learnt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["file_overhead_bytes"]

_MIN_FILES = 3


def file_overhead_bytes(depth: int, others: Sequence[tuple[int, int]]) -> float:
    """Return the overhead of a model's file, by the files of other sizes: a constant and as much for each block.

    Args:
        depth: Blocks.
        others: Depth and overhead [bytes] of files that were weighed.

    Returns:
        [bytes]; 0 where fewer than three files or one depth tell nothing.

    Example:
        >>> round(file_overhead_bytes(10, [(1, 600), (2, 1100), (4, 2100)]))
        5100
    """
    depths = np.array([one for one, _ in others], dtype=np.float64)
    if len(others) < _MIN_FILES or len(set(depths.tolist())) < 2:
        return 0.0
    slope, level = np.polyfit(depths, [overhead for _, overhead in others], 1)
    return max(0.0, float(level + slope * depth))
