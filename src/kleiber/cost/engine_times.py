"""What engines took for calls that were measured here before, and what follows for others."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from kleiber.cost.measured_call import Limits
from kleiber.runs import Document, default_cache

__all__ = ["EngineCall", "EngineTimes", "load_engine_times", "save_engine_times"]

_MIN_SHAPES = 3
_NEAR_OCTAVES = 1.0
"""Calls within an octave of each other count nearly alike."""
_MOST_FACTOR = 1.25
"""What is farther off was disturbed while it was measured, and says nothing of others."""
_FILE = "engines.json"


class EngineCall(Document):
    """A call of a model behind an engine, and what it took."""

    engine: str
    precision: str
    """What the engine computed in."""
    kind: str
    """`prefill`, `decode`, `forward`."""
    family: str
    num_threads: int
    depth: int
    """Repeated layers: each costs the overhead of its operations, however small they are."""
    flops: float
    read_bytes: float
    time_s: float = 0.0
    """The median; 0 of a call that is only asked about."""
    by_operations_s: float = 0.0
    """What the calibration gave, operation by operation; 0 where it was not asked."""
    calibrated_at: str = ""
    """When that calibration was made."""

    def is_like(self, other: EngineCall) -> bool:
        """Return whether the other says something of this one: the same engine at the same kind of work."""
        mine, theirs = (
            (one.engine, one.precision, one.kind, one.family, one.num_threads) for one in (self, other)
        )
        return mine == theirs

    @property
    def shape(self) -> tuple[float, ...]:
        """What tells sizes apart."""
        return self.depth, self.flops, self.read_bytes


class EngineTimes(Document):
    """Calls that were measured on this machine."""

    version: int = 1
    calls: tuple[EngineCall, ...] = ()

    def with_calls(self, calls: tuple[EngineCall, ...]) -> EngineTimes:
        """Return these times with others, newer ones in place of older ones of the same call."""
        kept = [
            old for old in self.calls if not any(old.is_like(new) and old.shape == new.shape for new in calls)
        ]
        return EngineTimes(calls=(*kept, *calls))

    def time_s(self, asked: EngineCall, limits: Limits) -> float | None:
        """Return what a call takes by those of other sizes that are like it; None of fewer than three of them.

        A call takes so much a layer, and so many times what the machine's limits give for its reading and its products; the
        three factors are those with the least relative errors, none below 0.

        Args:
            asked: Measurements of its very shape are left aside.
            limits: Of the machine with as many threads.

        Source:
            Lawson and Hanson 1974, "Solving Least Squares Problems", chapter 23: least squares without negative factors.
        """
        from scipy.optimize import nnls  # noqa: PLC0415 - takes a quarter of a second to import

        known = [one for one in self.calls if asked.is_like(one) and one.shape != asked.shape]
        if len({one.shape for one in known}) < _MIN_SHAPES:
            return None
        parts = np.array([_parts(one, limits) for one in known])
        times_s = np.array([one.time_s for one in known])
        factors, _ = nnls(parts / times_s[:, None], np.ones(len(known)))
        predicted = float(np.array(_parts(asked, limits)) @ factors)
        return predicted or None

    def operations_factor(self, asked: EngineCall) -> float:
        """Return what calls of other sizes took over what their operations gave, 1 of fewer than three sizes that are like it.

        What lies between operations is a model's own, and the same part of a larger and a smaller one; near sizes count most.

        Args:
            asked: Measurements of its very shape are left aside, and those that another calibration was asked about.
        """
        known = [
            one
            for one in self.calls
            if asked.is_like(one)
            and one.shape != asked.shape
            and one.by_operations_s
            and one.calibrated_at == asked.calibrated_at
        ]
        if len({one.shape for one in known}) < _MIN_SHAPES:
            return 1.0
        factors = np.log([one.time_s / one.by_operations_s for one in known])
        weights = np.array([1 / (_NEAR_OCTAVES**2 + _octaves_between(one, asked) ** 2) for one in known])
        factor = float(np.exp(weights @ factors / weights.sum()))
        return min(max(factor, 1 / _MOST_FACTOR), _MOST_FACTOR)


def _octaves_between(one: EngineCall, other: EngineCall) -> float:
    """Return how far apart two calls are in arithmetic and in reading, the farther of both."""
    pairs = ((one.flops, other.flops), (one.read_bytes, other.read_bytes))
    return max(abs(math.log2(max(a, 1.0) / max(b, 1.0))) for a, b in pairs)


def _parts(call: EngineCall, limits: Limits) -> tuple[float, float, float]:
    reading_s = call.read_bytes / limits.bandwidth_at(max(1.0, call.read_bytes))
    return float(call.depth) * limits.call_s, reading_s, call.flops / limits.peak("fp32")


def load_engine_times(path: Path | None = None) -> EngineTimes:
    """Return what engines took on this machine; nothing where none was ever measured.

    Raises:
        RunFolderError: The file does not parse.
    """
    path = path or default_cache() / _FILE
    return EngineTimes.read(path) if path.is_file() else EngineTimes()


def save_engine_times(times: EngineTimes, path: Path | None = None) -> None:
    """Keep what engines took.

    Raises:
        StorageError: The disk refused.
    """
    times.write(path or default_cache() / _FILE)
