"""The time of one call of an operation, from calls that were measured. Without torch.

Each measured call has a slowness: the time it took, over the time that the processor's limits suggest. A call that was
not measured takes the slowness that a straight line through the measured calls most like it gives: the same
operation, near in shape. Shapes are compared in octaves.

Source:
    Cleveland 1979, "Robust locally weighted regression and smoothing scatterplots", without its robust rounds.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from kleiber.cost.measured_call import Limits, MeasuredCall
from kleiber.cost.operations import Operation, OperationKind

__all__ = ["CallTimes"]

_OTHER_NAME, _OTHER_PHASE, _OTHER_DTYPE = 2.0, 2.0, 4.0
"""Squares of octaves: a matrix product as a layer's forward pass lays it out and as its backward pass does differ."""
_NEARNESS = 0.3
"""Square of octaves within which measurements count alike."""
_FLATNESS = 0.1
"""How strongly the line is held flat: where there are few measurements it has little to say."""
_AMONG_SCALE = 0.25
"""Octaves between two calls for each octave between the calls around them."""
_STREAMED_SCALE = 1.0
"""The same between what two models read until they read the same again: a cache holds it, or does not."""
_ONE_ROW = 4.0
"""Octaves between a matrix by a vector and products of more rows, which other routines compute."""
_CAUSAL_SCALE = 4.0
"""Octaves between a full and a causal square of attention of one shape."""
_VECTOR = 16
"""Channels that convolutions work on at once; what is left of the last such block is padding."""


class CallTimes:
    """Times of calls, measured or like measured ones.

    Args:
        limits: Of the processor.
        calls: Measured on it.
        is_streamed: Whether they are of answers: products read their weights from where a model of `among_bytes` keeps them.

    Example:
        >>> from kleiber.cost.measured_call import WorkingSet
        >>> sets = (WorkingSet(num_bytes=1, bytes_per_s=1e10),)
        >>> limits = Limits(peak_flops_per_s={"fp32": 1e11}, bandwidth=sets, call_s=1e-6)
        >>> add = Operation("add", "elementwise", "forward", "", (1000,), 0, 12_000)
        >>> times = CallTimes(limits, [MeasuredCall.timed(add, 4.4e-6)])  # twice what the limits suggest
        >>> larger = Operation("add", "elementwise", "forward", "", (4000,), 0, 48_000)
        >>> round(limits.least_s(larger) * 1e6, 2), round(times.time_s(larger) * 1e6, 2)
        (5.8, 11.6)
    """

    def __init__(self, limits: Limits, calls: Iterable[MeasuredCall], *, is_streamed: bool = False) -> None:
        self._limits, self._is_streamed = limits, is_streamed
        by_kind: dict[OperationKind, list[MeasuredCall]] = defaultdict(list)
        by_name: dict[str, list[MeasuredCall]] = defaultdict(list)
        for call in calls:
            by_kind[call.kind].append(call)
            by_name[call.name].append(call)
        self._by_kind, self._by_name = by_kind, by_name
        self._groups: dict[tuple[OperationKind, str], _Measured] = {}
        self._time_s: dict[tuple[Operation, int], float] = {}

    def time_s(self, operation: Operation, among_bytes: int | None = None) -> float:
        """Return the time of one call; where nothing of its kind was measured, what the limits suggest [s].

        Args:
            operation: What is called.
            among_bytes: As of `MeasuredCall`; None is a call by itself.
        """
        around = operation.moved_bytes if among_bytes is None else among_bytes
        # Planned operations repeat by module; the time of a call does not depend on where it stands.
        key = (replace(operation, module="", num_calls=1), around)
        if key not in self._time_s:
            measured = self._like(operation)
            slowness = measured.slowness(operation, around) if measured else 0.0
            least_s = _least_s(self._limits, operation, around, is_streamed=self._is_streamed)
            self._time_s[key] = least_s * math.exp(slowness)
        return self._time_s[key]

    def _like(self, operation: Operation) -> _Measured | None:
        """Return what was measured of this operation; of products, or of an unknown name, of its kind."""
        is_own = operation.kind != "matmul" and operation.name in self._by_name
        key = (operation.kind, operation.name if is_own else "")
        calls = self._by_name[operation.name] if is_own else self._by_kind.get(operation.kind, [])
        calls = [call for call in calls if call.kind == operation.kind] or calls
        if calls and key not in self._groups:
            self._groups[key] = _Measured(self._limits, calls, is_streamed=self._is_streamed)
        return self._groups.get(key)


class _Measured:
    """Measured calls of one kind, as arrays."""

    def __init__(self, limits: Limits, calls: Sequence[MeasuredCall], *, is_streamed: bool) -> None:
        self._scale = _STREAMED_SCALE if is_streamed else _AMONG_SCALE
        operations = [call.operation for call in calls]
        self._places = np.array(
            [self._place(op, call.among_bytes) for call, op in zip(calls, operations, strict=True)]
        )
        self._slowness = np.log(
            [
                call.time_s / _least_s(limits, op, call.among_bytes, is_streamed=is_streamed)
                for call, op in zip(calls, operations, strict=True)
            ]
        )
        self._names = np.array([call.name for call in calls])
        self._phases = np.array([call.phase for call in calls])
        self._dtypes = np.array([call.dtype for call in calls])

    def slowness(self, operation: Operation, among_bytes: int) -> float:
        """Return the logarithm of the slowness that the measurements around an operation give."""
        offsets = self._places - np.array(self._place(operation, among_bytes))
        distance = (
            np.square(offsets).sum(1)
            + _OTHER_NAME * (self._names != operation.name)
            + _OTHER_PHASE * (self._phases != operation.phase)
            + _OTHER_DTYPE * (self._dtypes != operation.dtype)
        )
        weights = (distance + _NEARNESS) ** -2.0
        line = np.column_stack([np.ones(len(offsets)), offsets])
        flat = _FLATNESS * weights.sum() * np.eye(line.shape[1])
        flat[0, 0] = 0.0  # the height is free, the slopes are held
        weighted = line.T * weights
        height = float(np.linalg.solve(weighted @ line + flat, weighted @ self._slowness)[0])
        # Far from all measurements a line may lead anywhere; no call was slower or faster than these.
        return min(max(height, float(self._slowness.min())), float(self._slowness.max()))

    def _place(self, operation: Operation, among_bytes: int) -> tuple[float, ...]:
        """Return where a call stands among those of its kind [octaves]."""
        return (*_shape_place(operation), self._scale * _octaves(among_bytes))


def _least_s(limits: Limits, operation: Operation, among_bytes: int, *, is_streamed: bool) -> float:
    return limits.least_s(operation, among_bytes if is_streamed else 0)


def _shape_place(operation: Operation) -> tuple[float, ...]:
    shape, flops, moved = operation.shape, operation.flops, operation.moved_bytes
    match operation.kind:
        case "matmul":
            sizes = (*[1] * (4 - len(shape)), *shape)[-4:]
            return (*map(_octaves, sizes), _ONE_ROW * (sizes[1] == 1))
        case "attention":
            batch, tokens, width = math.prod(shape[:-2]), *((1, 1, *shape)[-2:])
            square = (8 if operation.phase == "backward" else 4) * batch * tokens * tokens * width
            # Half of the square is causal; a longer sequence of keys is as dense as the whole.
            part = min(max(flops / max(square, 1), 0.5), 1.0)
            return (_octaves(batch), _octaves(tokens), _octaves(width), _CAUSAL_SCALE * math.log2(part))
        case "convolution":
            channels = shape[1] if len(shape) > 1 else 1
            blocks = math.ceil(channels / _VECTOR) * _VECTOR / channels
            return (_octaves(flops), _octaves(moved), _octaves(channels), 2 * _octaves(blocks))
        case "recurrent":
            return (_octaves(flops), _octaves(moved))
        case _:
            return (_octaves(moved),)


def _octaves(value: float) -> float:
    return math.log2(max(value, 1))
