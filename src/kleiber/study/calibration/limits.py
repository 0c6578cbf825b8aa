"""What a processor and the disk can do at most."""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from kleiber.cost.measured_call import Limits, WorkingSet
from kleiber.cost.rates import DiskRates
from kleiber.errors import StorageError
from kleiber.study.calibration.timing import Clock

__all__ = ["LimitMeter", "disk_rates"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_PRODUCT_SIZES = {"cpu": 768, "cuda": 4096}
_TRIAL_SIZE = 128
_SLOW_PRODUCT_S = 0.25
"""A dtype whose product would take longer is measured by the small product alone."""
_WORKING_SETS = tuple(1 << power for power in range(16, 29, 2))
"""64 KiB to 256 MiB: the caches of today's processors, and memory."""
_MOVED_BYTES = 1 << 26
"""Of one measurement of bandwidth, at least."""
_FRESH_BYTES = 1 << 26
_SMALL_CALLS = 1000
_DISK_BYTES = 1 << 26


class LimitMeter:
    """Measures the limits of one processor again and again; the best of each is what it can do.

    Args:
        clock: Of the device; torch is set to the wanted number of threads whenever `measure` is called.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._peaks: dict[str, float] = {}
        self._bandwidth: dict[int, float] = {}
        self._call_s = math.inf
        self._fresh_s_per_byte: list[float] = []

    def measure(self) -> None:
        """Measure everything once, about a third of a second on a CPU."""
        for name, dtype in _DTYPES.items():
            self._peaks[name] = max(self._peaks.get(name, 0.0), self._peak(dtype))
        self._call_s = min(self._call_s, self._small_call_s())
        for num_bytes in _WORKING_SETS:
            self._bandwidth[num_bytes] = max(self._bandwidth.get(num_bytes, 0.0), self._copied(num_bytes))
        if self._clock.device.type == "cpu":
            self._fresh_s_per_byte.append(self._fresh())

    @property
    def limits(self) -> Limits:
        """The best so far."""
        return Limits(
            peak_flops_per_s=self._peaks,
            bandwidth=tuple(
                WorkingSet(num_bytes=n, bytes_per_s=rate) for n, rate in sorted(self._bandwidth.items())
            ),
            call_s=self._call_s,
        )

    @property
    def fresh_page_s_per_byte(self) -> float:
        """The median so far; 0 on a GPU."""
        times_s = sorted(self._fresh_s_per_byte)
        return times_s[len(times_s) // 2] if times_s else 0.0

    def _peak(self, dtype: torch.dtype) -> float:
        trial = self._product(_TRIAL_SIZE, dtype)
        size = _PRODUCT_SIZES[self._clock.device.type]
        is_slow = 2 * size**3 / trial > _SLOW_PRODUCT_S
        return trial if is_slow else max(trial, self._product(size, dtype))

    def _product(self, size: int, dtype: torch.dtype) -> float:
        a = torch.ones(size, size, device=self._clock.device, dtype=dtype)
        torch.mm(a, a)
        return 2.0 * size**3 / self._best_s(lambda: torch.mm(a, a), 3)

    def _copied(self, num_bytes: int) -> float:
        """Return the bytes read and written in a second by copies between two halves of a working set."""
        source = torch.ones(num_bytes // 8, device=self._clock.device)
        target = torch.empty_like(source)
        repeats = max(1, _MOVED_BYTES // num_bytes // 4)

        def copy() -> None:
            for _ in range(repeats):
                target.copy_(source)

        copy()
        # The launches of small copies are no part of what memory can do.
        copied_s = self._best_s(copy, 2)
        return repeats * num_bytes / max(copied_s - repeats * self._call_s, copied_s / 4)

    def _small_call_s(self) -> float:
        x = torch.zeros(1, device=self._clock.device)

        def call() -> None:
            for _ in range(_SMALL_CALLS):
                x.neg()

        return self._best_s(call, 2) / _SMALL_CALLS

    def _fresh(self) -> float:
        """Return what a byte of new pages costs beside the write itself [s]."""
        kept = torch.empty(_FRESH_BYTES, dtype=torch.uint8)
        kept.fill_(1)
        again_s = self._best_s(lambda: kept.fill_(1), 2)
        return max(0.0, self._best_s(_write_fresh_pages, 2) - again_s) / _FRESH_BYTES

    def _best_s(self, run: Callable[[], object], num_times: int) -> float:
        times_s = []
        for _ in range(num_times):
            start = self._clock.now()
            run()
            times_s.append(self._clock.now() - start)
        return max(min(times_s), 1e-9)


def _write_fresh_pages() -> None:
    """Ask the system itself for memory, write it and hand it back: an allocator may have kept some."""
    with mmap.mmap(-1, _FRESH_BYTES) as pages:
        block = torch.frombuffer(pages, dtype=torch.uint8)
        block.fill_(1)
        del block


def disk_rates(folder: Path) -> DiskRates:
    """Return how fast `folder` is written and read, by one file of 64 MiB that is gone afterwards.

    Raises:
        StorageError: The disk refused.
    """
    content = os.urandom(_DISK_BYTES)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, buffering=0) as file:
            start = time.perf_counter()
            file.write(content)
            os.fsync(file.fileno())
            write_s = time.perf_counter() - start
            _forget_pages(file.fileno())
            file.seek(0)
            start = time.perf_counter()
            while file.read(1 << 22):
                pass
            read_s = time.perf_counter() - start
    except OSError as error:
        raise StorageError(f"the disk of {folder} could not be measured: {error.strerror}.") from None
    return DiskRates(write_bytes_per_s=_DISK_BYTES / write_s, read_bytes_per_s=_DISK_BYTES / read_s)


def _forget_pages(descriptor: int) -> None:
    """Tell the system that it need not keep the file in memory; Linux alone listens."""
    with contextlib.suppress(AttributeError, OSError):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
