"""glibc's allocator, told what to do with what is freed.

A step allocates and frees the same tensors again and again. By default glibc hands large blocks back to the system
and every step pays for fresh pages: 690 page faults and a seventh of the time of a step of 60 thousand parameters
(docs/log.md). Pinned thresholds also make the peak of memory a property of the run and not of its history.
"""

from __future__ import annotations

import ctypes
import functools

__all__ = ["keep_freed_memory", "pin_allocator", "return_freed_memory"]

# Of malloc.h. Blocks of up to 32 MiB, the most that glibc allows, come from the heap; the heap's top stays.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_MMAP_THRESHOLD_BYTES = 1 << 25
_TRIM_THRESHOLD_BYTES = 1 << 30
_TOP_PAD_BYTES = 1 << 24
_SMALL_BLOCK_BYTES = 1 << 14


def pin_allocator(*, keeps_freed_memory: bool) -> bool:
    """Pin the allocator as a recipe says; return whether its C library has thresholds."""
    return keep_freed_memory() if keeps_freed_memory else return_freed_memory()


@functools.cache
def keep_freed_memory() -> bool:
    """Pin the allocator's thresholds for this process; return whether its C library has them."""
    return _pin(
        (_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES),
        (_M_TRIM_THRESHOLD, _TRIM_THRESHOLD_BYTES),
        (_M_TOP_PAD, _TOP_PAD_BYTES),
    )


@functools.cache
def return_freed_memory() -> bool:
    """Pin the allocator so that blocks of 16 KiB and more go back to the system at once; return whether it could.

    The process then holds what its tensors hold, and its peak is theirs: for measuring, not for speed. A recurrent
    network makes thousands of blocks of 10 to 100 KB; in the heap their holes would be counted long after them.
    """
    # Without slack at the heap's top: a large block would be cut out of it and keep the heap from shrinking.
    return _pin((_M_MMAP_THRESHOLD, _SMALL_BLOCK_BYTES), (_M_TOP_PAD, 0))


def _pin(*settings: tuple[int, int]) -> bool:
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return all(mallopt(key, value) == 1 for key, value in settings)
