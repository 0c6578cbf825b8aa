"""Groups of passages that share text: they are held out together or not at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

__all__ = ["group_near_duplicates"]

MIN_SHARED_FRAC = 0.005
"""Two passages are near-duplicates when they share this part of the shorter one's windows."""

MAX_OWNERS = 8
"""A window in more passages than this is boiler-plate (a licence, a template): it joins nobody."""


def group_near_duplicates(
    windows: Sequence[npt.NDArray[np.uint64]], *, min_shared_frac: float = MIN_SHARED_FRAC
) -> list[list[int]]:
    """Return the passages in groups: whoever shares enough windows with a member is a member.

    Args:
        windows: Hashes of each passage's windows.
        min_shared_frac: Part of the shorter one's windows that near-duplicates share.

    Returns:
        Indices into `windows`; groups and members in order.

    Example:
        >>> group_near_duplicates([np.array([1, 2]), np.array([3]), np.array([2, 4])])
        [[0, 2], [1]]
    """
    shared = Counter(pair for owners in _owners(windows) for pair in combinations(owners, 2))
    parents = list(range(len(windows)))
    for (first, second), num_shared in shared.items():
        if num_shared >= min_shared_frac * min(len(windows[first]), len(windows[second])):
            low, high = sorted((_root(parents, first), _root(parents, second)))
            parents[high] = low
    groups: dict[int, list[int]] = {}
    for index in range(len(windows)):
        groups.setdefault(_root(parents, index), []).append(index)
    return list(groups.values())


def _owners(windows: Sequence[npt.NDArray[np.uint64]]) -> Iterator[list[int]]:
    """Yield, for each window in 2 to `MAX_OWNERS` passages, those passages in order."""
    repeated = _repeated(windows)
    if not len(repeated):
        return
    own = [np.unique(hashes[_is_in(hashes, repeated)]) for hashes in windows]
    hashes = np.concatenate(own)
    owners = np.repeat(np.arange(len(own)), [len(part) for part in own])
    order = np.argsort(hashes, kind="stable")
    starts = np.flatnonzero(np.diff(hashes[order], prepend=~hashes[order[:1]]))
    counts = np.diff(starts, append=len(order))
    is_shared = (counts >= 2) & (counts <= MAX_OWNERS)
    for start, count in zip(starts[is_shared], counts[is_shared], strict=True):
        yield owners[order[start : start + count]].tolist()


def _repeated(windows: Sequence[npt.NDArray[np.uint64]]) -> npt.NDArray[np.uint64]:
    """Return the hashes that stand more than once, sorted: of all others no owner need be told."""
    if not windows:
        return np.empty(0, np.uint64)
    hashes = np.concatenate(windows)
    hashes.sort()
    return np.unique(hashes[1:][hashes[1:] == hashes[:-1]])


def _is_in(hashes: npt.NDArray[np.uint64], known: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Return which hashes are among the known ones, which are sorted and not none."""
    places = np.searchsorted(known, hashes)
    found: npt.NDArray[np.bool_] = known[np.minimum(places, len(known) - 1)] == hashes
    return found


def _root(parents: list[int], index: int) -> int:
    while parents[index] != index:
        parents[index] = parents[parents[index]]  # halves the path for the next search
        index = parents[index]
    return index
