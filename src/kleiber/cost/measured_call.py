"""What is measured of a processor: its limits, and calls with the time they took."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from pydantic import Field, model_serializer, model_validator

from kleiber.cost.operations import Operation, OperationKind, Phase
from kleiber.runs import Document

__all__ = ["Limits", "MeasuredCall", "WorkingSet", "streamed_bytes"]

_LINE = re.compile(
    r"(?P<kind>\w+) (?P<name>\S+) (?P<phase>\w+) (?P<dtype>\w+) (?P<shape>\d+(x\d+)*|-): "
    r"(?P<flops>\d+) FLOP, (?P<moved_bytes>\d+) B among (?P<among_bytes>\d+) B, (?P<time_s>[0-9.e+-]+) s"
)
_STREAMED: tuple[OperationKind, ...] = ("matmul", "attention")
"""What reads weights, or keys and values: bytes that come again only with the next call of the model."""
_LINE_EXAMPLE = "matmul mm backward fp32 1x512x256x128: 33554432 FLOP, 917504 B among 65536 B, 0.000271 s"


class WorkingSet(Document):
    """How fast memory is read and written when so many bytes are used again and again."""

    num_bytes: int = Field(gt=0)
    bytes_per_s: float = Field(gt=0)


class Limits(Document):
    """What a processor can do at most."""

    peak_flops_per_s: dict[str, float] = Field(min_length=1)
    """Fastest matrix product by dtype [FLOP/s]."""
    bandwidth: tuple[WorkingSet, ...] = Field(min_length=1)
    """By working set, smallest first: caches, then memory."""
    call_s: float = Field(gt=0)
    """Of the smallest operation."""

    def peak(self, dtype: str) -> float:
        """Return the peak in a dtype; in one that was not measured, the slowest of those that were [FLOP/s]."""
        return self.peak_flops_per_s.get(dtype) or min(self.peak_flops_per_s.values())

    def bandwidth_at(self, num_bytes: float) -> float:
        """Return the bandwidth of a working set, between measured ones by their logarithms [bytes/s].

        Example:
            >>> sets = (WorkingSet(num_bytes=100, bytes_per_s=4e9), WorkingSet(num_bytes=10_000, bytes_per_s=1e9))
            >>> limits = Limits(peak_flops_per_s={"fp32": 1e11}, bandwidth=sets, call_s=1e-6)
            >>> [round(limits.bandwidth_at(size) / 1e9, 6) for size in (1, 1000, 1e9)]
            [4.0, 2.0, 1.0]
        """
        below = [known for known in self.bandwidth if known.num_bytes <= num_bytes]
        above = [known for known in self.bandwidth if known.num_bytes > num_bytes]
        if not (below and above):
            return (below[-1:] or above[:1])[0].bytes_per_s
        low, high = below[-1], above[0]
        part = math.log(num_bytes / low.num_bytes) / math.log(high.num_bytes / low.num_bytes)
        return low.bytes_per_s * math.pow(high.bytes_per_s / low.bytes_per_s, part)

    def parts(self, operation: Operation, streamed_bytes: int = 0) -> tuple[float, float, float]:
        """Return the least time of one call's arithmetic, memory traffic and launch [s].

        Args:
            operation: What is called.
            streamed_bytes: That the model it is of reads before it reads the same weights again: small ones stay in the caches.

        Example:
            >>> sets = (WorkingSet(num_bytes=100, bytes_per_s=4e9), WorkingSet(num_bytes=10_000, bytes_per_s=1e9))
            >>> limits = Limits(peak_flops_per_s={"fp32": 1e11}, bandwidth=sets, call_s=1e-6)
            >>> row = Operation("mm", "matmul", "forward", "", (1, 1, 5, 5), 50, 100)
            >>> [limits.parts(row, streamed)[1] for streamed in (0, 10_000)]
            [2.5e-08, 1e-07]
        """
        compute_s = operation.flops / self.peak(operation.dtype) if operation.flops else 0.0
        num_bytes = max(operation.moved_bytes, 1, streamed_bytes if operation.kind in _STREAMED else 0)
        return compute_s, operation.moved_bytes / self.bandwidth_at(num_bytes), self.call_s

    def least_s(self, operation: Operation, streamed_bytes: int = 0) -> float:
        """Return what the limits suggest for one call: arithmetic or memory traffic, and the launch [s]."""
        compute_s, memory_s, call_s = self.parts(operation, streamed_bytes)
        return max(compute_s, memory_s) + call_s


class MeasuredCall(Document):
    """One call and the time it took; a line of text in JSON."""

    kind: OperationKind
    name: str
    phase: Phase
    dtype: str
    shape: tuple[int, ...]
    flops: int = Field(ge=0)
    moved_bytes: int = Field(ge=0)
    among_bytes: int = Field(ge=0)
    """Of a training step: moved in the mean by its calls, for a small call among large ones finds cold caches. Of an answer: what
    its model reads until it reads the same again."""
    time_s: float = Field(gt=0)

    @classmethod
    def timed(cls, operation: Operation, time_s: float, among_bytes: int | None = None) -> MeasuredCall:
        """Return the measurement of one call of `operation`, by itself or in a step."""
        return cls(
            kind=operation.kind,
            name=operation.name,
            phase=operation.phase,
            dtype=operation.dtype,
            shape=operation.shape,
            flops=operation.flops,
            moved_bytes=operation.moved_bytes,
            among_bytes=operation.moved_bytes if among_bytes is None else among_bytes,
            time_s=time_s,
        )

    @property
    def operation(self) -> Operation:
        """What was called."""
        return Operation(
            self.name, self.kind, self.phase, "", self.shape, self.flops, self.moved_bytes, self.dtype
        )

    @model_serializer
    def _to_line(self) -> str:
        shape = "x".join(map(str, self.shape)) or "-"
        return (
            f"{self.kind} {self.name} {self.phase} {self.dtype} {shape}: "
            f"{self.flops} FLOP, {self.moved_bytes} B among {self.among_bytes} B, {self.time_s:.4g} s"
        )

    @model_validator(mode="before")
    @classmethod
    def _of_line(cls, raw: Any) -> Any:
        if not isinstance(raw, str):
            return raw
        match = _LINE.fullmatch(raw)
        if match is None:
            raise ValueError(f"a measured call is written '{_LINE_EXAMPLE}', not '{raw}'")
        shape = () if match["shape"] == "-" else tuple(int(size) for size in match["shape"].split("x"))
        return match.groupdict() | {"shape": shape}


def streamed_bytes(calls: Iterable[tuple[Operation, int]]) -> int:
    """Return the bytes that a model's calls read until they read the same weights, keys and values again.

    Args:
        calls: Operations of one answer, and how often each is called.

    Example:
        >>> row = Operation("mm", "matmul", "forward", "", (1, 1, 5, 5), 50, 140)
        >>> streamed_bytes([(row, 3), (Operation("add", "elementwise", "forward", "", (5,), 0, 60), 9)])
        420
    """
    return sum(count * operation.moved_bytes for operation, count in calls if operation.kind in _STREAMED)
