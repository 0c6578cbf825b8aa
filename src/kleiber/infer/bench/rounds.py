"""All candidates and the machine's own limits in turns, round by round.

Legend: R rounds, N times of a round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kleiber.infer.bench.candidates import Candidate
from kleiber.infer.bench.limits import PeakMeter, ReadMeter
from kleiber.infer.measure import SampleCalls, TextCalls
from kleiber.infer.measure.turns import rounds_of
from kleiber.runs.bench_result import BenchSettings, CallKind

__all__ = ["CallTimes", "Meters", "Rounds", "run_rounds"]

Floats = npt.NDArray[np.float64]
Taken = Mapping[str, Floats]
"""Of one turn, by what was timed."""

_RATE = "rate"
_WARM_TOKENS = 3
_MAX_CALLS = 1000


@dataclass(frozen=True)
class CallTimes:
    """Of one kind of call at one batch."""

    times_s_RN: Floats

    @property
    def medians_s(self) -> Floats:
        """Of each round."""
        medians: Floats = np.median(self.times_s_RN, axis=1)
        return medians

    @property
    def means_s(self) -> Floats:
        """Of each round."""
        means: Floats = self.times_s_RN.mean(1)
        return means


@dataclass(frozen=True)
class Meters:
    """What measures the machine."""

    reads: Mapping[int, ReadMeter]
    """By working set."""
    peaks: Mapping[tuple[str, str], PeakMeter]
    """By precision and engine."""


@dataclass(frozen=True)
class Rounds:
    """What all rounds measured."""

    calls: Mapping[tuple[int, CallKind, int], CallTimes]
    """By the place of the candidate, kind and batch."""
    read_rates: Mapping[int, Floats]
    """Bytes a second by working set, [R]."""
    peak_rates: Mapping[tuple[str, str], Floats]
    """Operations a second by precision and engine, [R]."""


def run_rounds(
    candidates: Sequence[Candidate],
    meters: Meters,
    settings: BenchSettings,
    *,
    on_turn: Callable[[str], object] = lambda _: None,
) -> Rounds:
    """Return the times of all candidates at all batches, every round in another order.

    Each is warmed up first, at each batch: engines compile and choose kernels when they see a shape for the first time.

    Args:
        candidates: Opened.
        meters: Of the machine: they have a turn in each round too, for a machine is not the same twice.
        settings: Batches and rounds.
        on_turn: Is told each turn before it begins.
    """
    turns: dict[str, Callable[[], Taken]] = {}
    places: dict[str, tuple[int, int]] = {}
    for place, candidate in enumerate(candidates):
        for batch in settings.batches:
            name = f"{place}: {candidate.title}, batch {batch}"
            on_turn(f"{name}: warm-up")
            turns[name] = _turn(candidate.work, batch, settings.block_s)
            places[name] = (place, batch)
    reads = {f"reading {size} bytes": size for size in meters.reads}
    peaks = {
        f"products of {engine} in {precision}": (precision, engine) for precision, engine in meters.peaks
    }
    turns |= {name: _metered(meters.reads[size].turn) for name, size in reads.items()}
    turns |= {name: _metered(meters.peaks[key].turn) for name, key in peaks.items()}
    taken = rounds_of(turns, settings.num_rounds, seed=settings.seed, on_turn=on_turn)
    calls: dict[tuple[int, CallKind, int], CallTimes] = {}
    for name, (place, batch) in places.items():
        for kind in candidates[place].kinds:
            calls[place, kind, batch] = CallTimes(np.stack([one[kind] for one in taken[name]]))
    return Rounds(
        calls=calls,
        read_rates={size: _rates(taken[name]) for name, size in reads.items()},
        peak_rates={key: _rates(taken[name]) for name, key in peaks.items()},
    )


def _turn(work: TextCalls | SampleCalls, batch: int, block_s: float) -> Callable[[], Taken]:
    if isinstance(work, TextCalls):
        text = work
        text.times(batch, num_new=min(_WARM_TOKENS, text.num_new))

        def run_text() -> Taken:
            times = text.times(batch)
            return {"prefill": np.array([times.first_s]), "decode": times.each_s_N}

        return run_text
    samples = work
    samples.times(batch, 1)
    once_s = float(samples.times(batch, 2).min())
    num_calls = max(2, min(_MAX_CALLS, round(block_s / max(once_s, 1e-9))))
    return lambda: {"forward": samples.times(batch, num_calls)}


def _metered(turn: Callable[[], float]) -> Callable[[], Taken]:
    return lambda: {_RATE: np.array([turn()])}


def _rates(taken: Sequence[Taken]) -> Floats:
    return np.concatenate([one[_RATE] for one in taken])
