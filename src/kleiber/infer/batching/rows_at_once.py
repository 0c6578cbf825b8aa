"""How many rows a step reads at once.

A library of matrix products has a kernel for few rows and another for many, and between them is often a size that a batch is
better split at: ONNX Runtime reads sixteen rows of a small model in int8 faster as four times four.
"""

from __future__ import annotations

import time

import numpy as np

from kleiber.infer.batching.row_stepper import RowStepper

__all__ = ["rows_at_once"]

_NUM_CALLS = 5
_LEAST_GAIN = 0.05
"""In rows a second, for which a batch is split."""
_NUM_READ = 32
"""Tokens that each row holds meanwhile."""


def rows_at_once(stepper: RowStepper, num_rows: int) -> int:
    """Return the number of rows of which a step reads most in a second; all where splitting them gains next to nothing.

    Args:
        stepper: Nobody else reads with it yet; what its rows hold is lost.
        num_rows: Texts that it has room for.
    """
    sizes = sorted({num_rows} | {2**power for power in range(num_rows.bit_length())}, reverse=True)
    best, most = num_rows, 0.0
    for size in sizes:
        rows_a_second = size / _time_s(stepper, size)
        if rows_a_second > most * (1 + _LEAST_GAIN):
            best, most = size, rows_a_second
    return best


def _time_s(stepper: RowStepper, num_rows: int) -> float:
    tokens_B1 = np.zeros((num_rows, 1), np.int64)
    num_read_B = [min(_NUM_READ, stepper.context - 1)] * num_rows
    times_s = []
    for _ in range(1 + _NUM_CALLS):  # the first makes what is made once
        start = time.perf_counter()
        stepper.read(0, tokens_B1, num_read_B)
        times_s.append(time.perf_counter() - start)
    return min(times_s[1:])
