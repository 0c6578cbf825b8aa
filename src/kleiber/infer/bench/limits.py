"""What this machine can do: memory that is only read, by working set, and large products, by engine and precision."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from kleiber.errors import KleiberError
from kleiber.infer.engines import EngineName, open_predictor
from kleiber.infer.precision import Precision, in_precision
from kleiber.models import build
from kleiber.models.mlp import MLPSpec
from kleiber.models.stored import Activations
from kleiber.runs import DataShape

if TYPE_CHECKING:
    from kleiber.infer.predictor import Predictor

__all__ = ["PeakMeter", "ReadMeter", "peak_meters", "working_sets"]

_TURN_S = 0.02
_STEPS_AN_OCTAVE = 4
_WIDTH, _DEPTH, _ROWS = 1024, 3, 512
"""Of the products that a peak is measured with: large enough that an engine is at its best, small enough for 20 ms."""


def working_sets(num_bytes: Iterable[float]) -> tuple[int, ...]:
    """Return the working sets to measure for calls that read so many bytes, smallest first.

    Sizes nearer than a quarter of an octave share one: bandwidth does not change within it.

    Example:
        >>> working_sets([100e6, 101e6, 4096])
        (4096, 94906265)
    """
    places = {round(_STEPS_AN_OCTAVE * np.log2(max(one, 4096))) for one in num_bytes}
    return tuple(int(2 ** (place / _STEPS_AN_OCTAVE)) for place in sorted(places))


class ReadMeter:
    """Reads a working set again and again and adds it up: nothing is written, as when a decoder reads its weights.

    Args:
        num_bytes: Of the working set.
        num_threads: That read it.
    """

    def __init__(self, num_bytes: int, num_threads: int) -> None:
        self.num_bytes = max(8, num_bytes // 8 * 8)
        self._num_threads = num_threads
        self._floats = torch.ones(self.num_bytes // 4)
        self._longs = self._floats.view(torch.int64)

    def turn(self) -> float:
        """Return the bytes that are read in a second: the best pass of two ways to read."""
        before = torch.get_num_threads()
        torch.set_num_threads(self._num_threads)
        try:
            return max(self._rate(self._floats.sum), self._rate(self._longs.amax))
        finally:
            torch.set_num_threads(before)

    def _rate(self, read: Callable[[], object]) -> float:
        start = time.perf_counter()
        read()
        num_passes = max(1, int(_TURN_S / 8 / max(time.perf_counter() - start, 1e-7)))
        best_s, end = float("inf"), time.perf_counter() + _TURN_S
        while best_s == float("inf") or time.perf_counter() < end:
            start = time.perf_counter()
            for _ in range(num_passes):
                read()
            best_s = min(best_s, (time.perf_counter() - start) / num_passes)
        return self.num_bytes / best_s


class PeakMeter:
    """Multiplies large matrices through an engine, by its own kernels; what has few bits in int8 where the engine does so.

    Args:
        engine: That multiplies.
        precision: Of the weights.
        num_threads: Of the engine.

    Raises:
        KleiberError: The engine is not installed, or does not take them.
    """

    flops = 2.0 * _DEPTH * _ROWS * _WIDTH * _WIDTH
    """Of a call [FLOP]."""

    def __init__(self, engine: EngineName, precision: Precision, num_threads: int) -> None:
        self.engine, self.precision = engine, precision
        shape = DataShape(inputs="features", num_features=_WIDTH, num_outputs=_WIDTH)
        spec = MLPSpec.of_size({"depth": _DEPTH - 1, "width": _WIDTH}, shape)
        module = build(spec).eval()
        forms = in_precision(module, {}, precision)
        self._inputs = np.random.default_rng(0).standard_normal((_ROWS, _WIDTH)).astype(np.float32)
        rows = torch.from_numpy(self._inputs)
        self._predictor: Predictor = open_predictor(
            engine,
            module,
            [rows],
            forms=forms,
            activations=Activations(has_dynamic_inputs=precision != "fp32"),
            num_threads=num_threads,
        )
        self._predictor(self._inputs)

    def turn(self) -> float:
        """Return the operations in a second of the best of some calls."""
        best_s, end = float("inf"), time.perf_counter() + 2 * _TURN_S
        while best_s == float("inf") or time.perf_counter() < end:
            start = time.perf_counter()
            self._predictor(self._inputs)
            best_s = min(best_s, time.perf_counter() - start)
        return self.flops / best_s


def peak_meters(
    engines: Iterable[EngineName], precisions: Iterable[Precision], num_threads: int
) -> Mapping[tuple[str, str], PeakMeter]:
    """Return meters by precision and engine; what an engine does not run is left out."""
    meters: dict[tuple[str, str], PeakMeter] = {}
    for precision in dict.fromkeys(precisions):
        for engine in engines:
            try:
                meters[precision, engine] = PeakMeter(engine, precision, num_threads)
            except KleiberError:
                continue
    return meters
