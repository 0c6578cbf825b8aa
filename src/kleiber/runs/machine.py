"""This machine, as far as every room needs to know it."""

from __future__ import annotations

import os

__all__ = ["num_cores"]


def num_cores() -> int:
    """Return the CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
