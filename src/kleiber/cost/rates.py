"""What `kleiber calibrate` measured of this machine, and the time of a step that follows from it. No torch."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from kleiber.cost.devices import Device
from kleiber.cost.measured_call import Limits, MeasuredCall, streamed_bytes
from kleiber.cost.operations import Operation, OperationKind
from kleiber.cost.roofline import Bound, KindTime
from kleiber.cost.usage import Mode
from kleiber.errors import UsageError
from kleiber.runs import Document

if TYPE_CHECKING:
    from kleiber.cost.call_time import CallTimes

__all__ = [
    "KEPT_BLOCK_BYTES",
    "DiskRates",
    "LocalTime",
    "ProcessorRates",
    "Rates",
    "fresh_bytes",
    "mean_moved_bytes",
]

KEPT_BLOCK_BYTES = 1 << 25
"""`kleiber train` keeps freed blocks below this size; a larger one is made of fresh pages whenever it is made."""

_BYTES = {"fp64": 8, "int64": 8, "fp16": 2, "bf16": 2, "int16": 2, "int8": 1, "uint8": 1, "bool": 1}
_BOUNDS: tuple[Bound, ...] = ("compute", "bandwidth", "launch")


@dataclass(frozen=True)
class LocalTime:
    """A step's time on a processor that was measured, and where it goes."""

    step_time_s: float
    by_kind: tuple[KindTime, ...]
    """Longest first."""
    fresh_pages_s: float
    """Of blocks whose pages the system has to make."""
    between_calls_s: float
    """Of what no call takes: views, the autograd engine, Python. With the two above it adds up to the step."""


class DiskRates(Document):
    """Of the disk that holds Kleiber's cache."""

    write_bytes_per_s: float = Field(gt=0)
    """With the wait until it is safe."""
    read_bytes_per_s: float = Field(gt=0)
    """Of what the system had not kept in memory, where it can be told to forget."""


class ProcessorRates(Document):
    """What a GPU, or the CPU with so many threads, did."""

    title: str
    limits: Limits
    fresh_page_s_per_byte: float = Field(default=0.0, ge=0)
    """Of memory that is written for the first time, beside the write itself."""
    work_factor: float = Field(default=1.0, gt=0)
    """Time of a step's calls inside the step, over the sum of their own."""
    gap_s: float = Field(default=0.0, ge=0)
    """Between two calls passes the geometric mean of this and a call's own mean time: the longer the calls, the less
    of the code between them is left in the caches."""
    check_errors: dict[str, float] = Field(default_factory=dict)
    """Relative error of the time of each of the calibration's own steps, predicted from the others alone."""
    calls: tuple[MeasuredCall, ...] = ()
    is_streamed: bool = False
    """Whether the calls are of answers, without gradients: weights are read again only with the next answer."""

    @property
    def check_error_frac(self) -> float | None:
        """The median of the sizes of `check_errors`; None without any."""
        return statistics.median(map(abs, self.check_errors.values())) if self.check_errors else None

    @cached_property
    def _times(self) -> CallTimes:
        from kleiber.cost.call_time import CallTimes  # noqa: PLC0415 - a plan without rates needs no NumPy

        return CallTimes(self.limits, self.calls, is_streamed=self.is_streamed)

    def gap_between(self, call_s: float) -> float:
        """Return what passes between two calls of a step whose calls take so long in the mean [s]."""
        return math.sqrt(self.gap_s * call_s)

    def operation_time_s(self, operation: Operation, among_bytes: int | None = None) -> float:
        """Return the time of all calls of an operation, on memory that is at hand [s].

        Args:
            operation: What is called.
            among_bytes: What the step it is of has of `MeasuredCall.among_bytes`; None is a call by itself.
        """
        return operation.num_calls * self._times.time_s(operation, among_bytes)

    def step_time(
        self, operations: Iterable[Operation], *, kept_block_bytes: int = KEPT_BLOCK_BYTES
    ) -> LocalTime:
        """Return the time of a step that does these operations, and where it goes.

        Args:
            operations: Of the whole step, attention counted by the convention `causal`.
            kept_block_bytes: Freed blocks below this size are used again; others are made of fresh pages.
        """
        operations = tuple(operations)
        num_calls = sum(operation.num_calls for operation in operations)
        counted = [(operation, operation.num_calls) for operation in operations]
        among_bytes = streamed_bytes(counted) if self.is_streamed else mean_moved_bytes(counted)
        time_s: dict[tuple[OperationKind, Bound], float] = defaultdict(float)
        for operation in operations:
            bound = self._bound(operation, among_bytes if self.is_streamed else 0)
            time_s[operation.kind, bound] += self.operation_time_s(operation, among_bytes)
        kinds = {
            kind: {bound: self.work_factor * time_s.get((kind, bound), 0.0) for bound in _BOUNDS}
            for kind, _ in time_s
        }
        by_kind = [
            KindTime(kind, sum(parts.values()), max(parts, key=lambda bound: parts[bound]))
            for kind, parts in kinds.items()
        ]
        fresh_pages_s = self.fresh_page_s_per_byte * fresh_bytes(operations, kept_block_bytes)
        calls_s = sum(time_s.values())
        between_calls_s = num_calls * self.gap_between(calls_s / max(num_calls, 1))
        return LocalTime(
            step_time_s=self.work_factor * calls_s + fresh_pages_s + between_calls_s,
            by_kind=tuple(sorted(by_kind, key=lambda kind: -kind.time_s)),
            fresh_pages_s=fresh_pages_s,
            between_calls_s=between_calls_s,
        )

    def _bound(self, operation: Operation, streamed: int) -> Bound:
        parts = self.limits.parts(operation, streamed)
        return _BOUNDS[parts.index(max(parts))]


class Rates(Document):
    """What was measured on this machine."""

    version: Literal[1] = 1
    measured_at: str
    """UTC, ISO 8601."""
    torch_version: str
    cpu: dict[int, ProcessorRates] = Field(min_length=1)
    """By number of threads."""
    cpu_answers: dict[int, ProcessorRates] = Field(default_factory=dict)
    """The same of calls without gradients, as inference makes them; empty of a calibration that did not measure them."""
    gpus: dict[str, ProcessorRates] = Field(default_factory=dict)
    """By torch's name of the device, such as `cuda:0`."""
    disk: DiskRates | None = None

    def processor(
        self, num_threads: int | None = None, gpu: str | None = None, *, mode: Mode = "train"
    ) -> ProcessorRates:
        """Return the rates of a GPU, or of the CPU with so many threads; of a number not measured, the nearest's.

        Args:
            num_threads: None takes the most.
            gpu: Torch's name of the device; None takes the CPU.
            mode: `infer` takes the calls of answers where they were measured.

        Raises:
            UsageError: That GPU was not measured.
        """
        if gpu is None:
            threads = num_threads or max(self.cpu)
            measured = self.cpu_answers if mode == "infer" and self.cpu_answers else self.cpu
            return measured[min(measured, key=lambda known: (abs(known - threads), known))]
        if gpu not in self.gpus:
            known = ", ".join(self.gpus) or "none"
            raise UsageError(
                f"the GPU '{gpu}' was not calibrated; known: {known}.",
                hint="kleiber calibrate, where the GPU is",
            )
        return self.gpus[gpu]

    def operation_time_s(self, operation: Operation, num_threads: int | None = None) -> float:
        """Return the time of all calls of an operation on the CPU, on memory that is at hand [s]."""
        return self.processor(num_threads).operation_time_s(operation)

    def step_time(
        self,
        operations: Iterable[Operation],
        num_threads: int | None = None,
        *,
        gpu: str | None = None,
        kept_block_bytes: int = KEPT_BLOCK_BYTES,
        mode: Mode = "train",
    ) -> LocalTime:
        """Return the time of a step, or of an answer; see `ProcessorRates.step_time`.

        Raises:
            UsageError: That GPU was not measured.
        """
        found = self.processor(num_threads, gpu, mode=mode)
        return found.step_time(operations, kept_block_bytes=kept_block_bytes)

    def device(
        self, num_threads: int | None = None, *, gpu: str | None = None, memory_bytes: float | None = None
    ) -> Device:
        """Return the device `local`: the limits that were measured.

        Args:
            num_threads: Of the CPU; None takes the most.
            gpu: Torch's name of a GPU; None takes the CPU.
            memory_bytes: Of the machine or GPU, when it is known.
        """
        processor = self.processor(num_threads, gpu)
        return Device(
            name="local",
            title=processor.title,
            per="machine" if gpu is None else "GPU",
            peak_flops_per_s=processor.limits.peak_flops_per_s,
            memory_bytes=memory_bytes,
            bandwidth_bytes_per_s=processor.limits.bandwidth[-1].bytes_per_s,
            source="kleiber calibrate",
            date=self.measured_at[:7],
            is_checked=True,
        )


def mean_moved_bytes(calls: Iterable[tuple[Operation, int]]) -> int:
    """Return the bytes that one of these calls moves in the mean; 0 of none.

    Args:
        calls: Operations, and how often each is called.
    """
    num_calls = moved_bytes = 0
    for operation, count in calls:
        num_calls += count
        moved_bytes += count * operation.moved_bytes
    return moved_bytes // max(num_calls, 1)


def fresh_bytes(operations: Iterable[Operation], kept_block_bytes: int) -> int:
    """Return the bytes of results in blocks of `kept_block_bytes` and more: a step makes each of fresh pages.

    Results of operations in place (their names end with an underscore) stand where they stood. Those over lists of
    tensors (`_foreach_norm`) are left out: their shape is that of all tensors together.

    Example:
        >>> add = Operation("add", "elementwise", "forward", "", (4, 1000), 0, 48_000, num_calls=2)
        >>> fresh_bytes([add], 16_000), fresh_bytes([add], 16_001)
        (32000, 0)
    """
    sizes = (
        (operation.num_calls, _result_bytes(operation))
        for operation in operations
        if not (operation.name.endswith("_") or operation.name.startswith("_foreach"))
    )
    return sum(num_calls * num_bytes for num_calls, num_bytes in sizes if num_bytes >= kept_block_bytes)


def _result_bytes(operation: Operation) -> int:
    shape = operation.shape[:3] if operation.kind == "matmul" else operation.shape
    return math.prod(shape) * _BYTES.get(operation.dtype, 4)
