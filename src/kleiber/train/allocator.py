"""glibc's allocator, told to keep what training frees.

A step allocates and frees the same tensors again and again. By default glibc hands large blocks back to the system
and every step pays for fresh pages: 690 page faults and a seventh of the time of a step of 60 thousand parameters
(docs/log.md). Pinned thresholds also make the peak of memory a property of the run and not of its history.
"""

from __future__ import annotations

import ctypes
import functools

__all__ = ["keep_freed_memory"]

# Of malloc.h. Blocks of up to 32 MiB, the most that glibc allows, come from the heap; the heap's top stays.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_MMAP_THRESHOLD_BYTES = 1 << 25
_TRIM_THRESHOLD_BYTES = 1 << 30
_TOP_PAD_BYTES = 1 << 24


@functools.cache
def keep_freed_memory() -> bool:
    """Pin the allocator's thresholds for this process; return whether its C library has them."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    settings = (
        (_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES),
        (_M_TRIM_THRESHOLD, _TRIM_THRESHOLD_BYTES),
        (_M_TOP_PAD, _TOP_PAD_BYTES),
    )
    return all(mallopt(key, value) == 1 for key, value in settings)
