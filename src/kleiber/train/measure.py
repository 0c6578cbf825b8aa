"""What this machine does: its peak rate, and how much memory this process holds."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import re
import time
from pathlib import Path

import torch

__all__ = ["MemoryMeter", "peak_flops_per_s"]

_SIZE = 1024
_REPEATS = 12
_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")


@functools.cache
def peak_flops_per_s(num_threads: int) -> float:
    """Return the fastest measured rate of an fp32 matrix product [FLOP/s] on `num_threads` threads.

    The best of a dozen products of 1,024-square matrices, about a quarter of a second in all; torch must be
    set to `num_threads` threads already.
    """
    if torch.get_num_threads() != num_threads:
        raise ValueError(f"torch runs {torch.get_num_threads()} threads, not {num_threads}")
    a, b = torch.ones(_SIZE, _SIZE), torch.ones(_SIZE, _SIZE)
    torch.mm(a, b)
    times_s = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        torch.mm(a, b)
        times_s.append(time.perf_counter() - start)
    return 2.0 * _SIZE**3 / min(times_s)


class MemoryMeter:
    """Peak resident memory above what the process held when the meter was made [bytes].

    Linux counts it exactly (VmHWM, reset through clear_refs). Elsewhere, or where the reset is refused, the
    peak is the process's own since its start, less what it held at the beginning.
    """

    def __init__(self) -> None:
        _release_free_memory()
        self._baseline = _read_status("VmRSS")
        if not self.forget_peak():
            self._baseline = max(self._baseline, _read_status("VmHWM"))

    def forget_peak(self) -> bool:
        """Start the peak again from what is held now; return whether the system could."""
        try:
            _CLEAR_REFS.write_text("5")
        except OSError:
            return False
        return True

    def peak_bytes(self) -> int:
        """Return the peak so far."""
        return max(0, _read_status("VmHWM") - self._baseline)

    def held_bytes(self) -> int:
        """Return what is held now."""
        return max(0, _read_status("VmRSS") - self._baseline)


def _release_free_memory() -> None:
    """Give what earlier work freed back to the system, or it would hide in the baseline. glibc only."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def _read_status(key: str) -> int:
    if _STATUS.is_file():
        match = re.search(rf"^{key}:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
        return int(match[1]) * 1024 if match else 0
    import resource  # noqa: PLC0415 - only Unix has it

    # macOS gives bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
