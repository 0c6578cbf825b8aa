"""This machine, as far as every room needs to know it."""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = ["free_memory_bytes", "num_cores"]

_MEMINFO = Path("/proc/meminfo")


def num_cores() -> int:
    """Return the CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory_bytes() -> int:
    """Return the memory that a new process can take without swapping [bytes]; elsewhere than on Linux, all that is not in use."""
    if _MEMINFO.is_file() and (
        match := re.search(r"^MemAvailable:\s+(\d+) kB", _MEMINFO.read_text(), re.MULTILINE)
    ):
        return int(match[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
