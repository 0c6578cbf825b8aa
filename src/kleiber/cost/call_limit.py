"""The least time of one call of a model: what it multiplies and what it reads, against what a machine can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kleiber.errors import UsageError

__all__ = ["CallCost", "CallLimit", "call_limit"]


@dataclass(frozen=True)
class CallCost:
    """What a call needs at least."""

    flops: float
    """2 per multiply-add of matrix products, attention and convolutions [FLOP]."""
    read_bytes: float
    """Weights as their precision stores them, once, and the keys and values of what was read before."""

    @property
    def intensity(self) -> float:
        """Operations for each byte that is read [FLOP/byte]."""
        return self.flops / self.read_bytes


@dataclass(frozen=True)
class CallLimit:
    """What no call is faster than."""

    time_s: float
    bound: Literal["compute", "bandwidth"]


def call_limit(cost: CallCost, *, peak_flops_per_s: float, bytes_per_s: float) -> CallLimit:
    """Return the longer of the time to multiply and the time to read.

    Args:
        cost: Of the call.
        peak_flops_per_s: Of the precision.
        bytes_per_s: Of reading a working set of the call's bytes again and again.

    Raises:
        UsageError: A rate is not positive.

    Source:
        Williams, Waterman and Patterson 2009, "Roofline: an insightful visual performance model".

    Example:
        >>> token = CallCost(flops=176e6, read_bytes=352e6)  # 88 M weights in fp32
        >>> limit = call_limit(token, peak_flops_per_s=100e9, bytes_per_s=20e9)
        >>> limit.bound, round(1 / limit.time_s, 1)
        ('bandwidth', 56.8)
    """
    if not (peak_flops_per_s > 0 and bytes_per_s > 0):
        raise UsageError("limits must be positive rates.", got=(peak_flops_per_s, bytes_per_s))
    compute_s, read_s = cost.flops / peak_flops_per_s, cost.read_bytes / bytes_per_s
    return CallLimit(max(compute_s, read_s), "compute" if compute_s >= read_s else "bandwidth")
