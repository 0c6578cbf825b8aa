"""From times, counts and limits to the document of a benchmark.

Legend: R rounds, N times of a round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kleiber.cost.call_limit import CallCost, CallLimit, call_limit
from kleiber.infer.bench.candidates import STORED, Candidate
from kleiber.infer.bench.limits import working_sets
from kleiber.infer.bench.model import Benched
from kleiber.infer.bench.prediction import Prediction
from kleiber.infer.bench.quality import RowQuality, question_of
from kleiber.infer.bench.rounds import CallTimes, Rounds
from kleiber.infer.measure import Fresh
from kleiber.infer.measure.ratio import median_estimate, quantile_estimate, ratio_estimate
from kleiber.infer.precision import PRECISIONS
from kleiber.runs import environment, free_memory_bytes, now, processor_name
from kleiber.runs.bench_result import (
    BenchCall,
    BenchLeftOut,
    BenchMachine,
    BenchResult,
    BenchRow,
    BenchSettings,
    CallKind,
    ComputePeak,
    MemoryRate,
)

__all__ = ["Measured", "assembled"]

Floats = npt.NDArray[np.float64]
CallKey = tuple[int, CallKind, int]
"""Place of the candidate, kind, batch."""


@dataclass(frozen=True)
class Measured:
    """All that a benchmark found."""

    started_at: str
    models: tuple[Benched, ...]
    candidates: tuple[Candidate, ...]
    left_out: tuple[BenchLeftOut, ...]
    costs: Mapping[CallKey, CallCost]
    predictions: Mapping[CallKey, Prediction]
    rounds: Rounds
    fresh: tuple[Fresh | str | None, ...]
    """By candidate; a sentence where the process failed."""
    qualities: tuple[RowQuality, ...]


def assembled(measured: Measured, settings: BenchSettings) -> BenchResult:
    """Return the document of what was measured."""
    candidates = measured.candidates
    reference = _reference(candidates)
    fastest = _fastest(measured)
    return BenchResult(
        started_at=measured.started_at,
        created_at=now(),
        settings=settings,
        machine=_machine(measured.rounds, settings),
        models=tuple(model.document for model in measured.models),
        reference=candidates[reference].title,
        rows=tuple(_row(place, measured, settings, reference, fastest) for place in range(len(candidates))),
        left_out=measured.left_out,
        says=_says(measured, settings),
    )


def _reference(candidates: Sequence[Candidate]) -> int:
    """Return the place of what gains are over: the first model in torch as it is stored, or else the first of all."""
    first = candidates[0].model.name
    places = (
        place
        for place, one in enumerate(candidates)
        if (one.model.name, one.work.engine) == (first, "torch") and one.asked_precision in (STORED, "fp32")
    )
    return next(places, 0)


def _machine(rounds: Rounds, settings: BenchSettings) -> BenchMachine:
    return BenchMachine(
        processor=processor_name(),
        memory_bytes=free_memory_bytes(),
        environment=environment(settings.num_threads),
        memory_rates=tuple(
            MemoryRate(working_set_bytes=size, bytes_per_s=median_estimate(rates_R, seed=settings.seed))
            for size, rates_R in sorted(rounds.read_rates.items())
        ),
        compute_peaks=tuple(
            ComputePeak(
                precision=precision,
                engine=engine,
                flops_per_s=median_estimate(rates_R, seed=settings.seed),
            )
            for (precision, engine), rates_R in rounds.peak_rates.items()
        ),
    )


def _row(
    place: int, measured: Measured, settings: BenchSettings, reference: int, fastest: set[CallKey]
) -> BenchRow:
    candidate, fresh, quality = measured.candidates[place], measured.fresh[place], measured.qualities[place]
    failed = (fresh,) if isinstance(fresh, str) else ()
    return BenchRow(
        model=candidate.model.name,
        engine=candidate.work.engine,
        asked_engine=candidate.asked_engine,
        precision=candidate.asked_precision,
        computes_in=candidate.work.precision,
        load_s=fresh.load_s if isinstance(fresh, Fresh) else None,
        peak_memory_bytes=fresh.peak_memory_bytes if isinstance(fresh, Fresh) else None,
        calls=tuple(
            _call(
                (place, kind, batch),
                measured,
                settings,
                reference,
                is_fastest=(place, kind, batch) in fastest,
            )
            for kind in candidate.kinds
            for batch in settings.batches
        ),
        quality=quality.changes,
        quality_loss=quality.loss,
        passes=quality.passes,
        notes=(*candidate.work.notes, *quality.notes, *failed),
    )


def _call(
    key: CallKey, measured: Measured, settings: BenchSettings, reference: int, *, is_fastest: bool
) -> BenchCall:
    place, kind, batch = key
    candidate, times, cost = measured.candidates[place], measured.rounds.calls[key], measured.costs[key]
    rates_R = _throughput(candidate, kind, batch, times)
    base = measured.rounds.calls.get((reference, kind, batch), times)
    base_R = _throughput(measured.candidates[reference], kind, batch, base)
    limit, limits_s_R = _limits(candidate, cost, measured.rounds)
    predicted = measured.predictions.get(key)
    tokens = {"prefill": "num_prompt", "decode": "num_new"}.get(kind)
    p50, p95, p99 = (
        quantile_estimate(times.times_s_RN, part, seed=settings.seed) for part in (0.5, 0.95, 0.99)
    )
    return BenchCall(
        kind=kind,
        batch=batch,
        num_tokens=None if tokens is None else getattr(candidate.prompt, tokens),
        num_timed=times.times_s_RN.size,
        p50_s=p50,
        p95_s=p95,
        p99_s=p99,
        throughput_per_s=median_estimate(rates_R, seed=settings.seed),
        gain=ratio_estimate(rates_R, base_R, seed=settings.seed),
        flops=cost.flops,
        read_bytes=cost.read_bytes,
        bound=limit.bound,
        limit_s=limit.time_s,
        limit_frac=ratio_estimate(limits_s_R, times.medians_s, seed=settings.seed),
        predicted_s=None if predicted is None else predicted.time_s,
        predicted_by=None if predicted is None else predicted.method,
        is_fastest=is_fastest,
    )


def _throughput(candidate: Candidate, kind: CallKind, batch: int, times: CallTimes) -> Floats:
    """Return tokens or samples a second of each round, [R]."""
    num = batch * (candidate.prompt.num_prompt if candidate.prompt and kind == "prefill" else 1)
    rates_R: Floats = num / times.means_s
    return rates_R


def _limits(candidate: Candidate, cost: CallCost, rounds: Rounds) -> tuple[CallLimit, Floats]:
    """Return the limit by the medians of the machine's rates, and the least seconds by those of each round, [R]."""
    most = PRECISIONS.index(candidate.model.limit_precision(candidate.precision))
    peaks = [
        rates_R
        for (precision, _), rates_R in rounds.peak_rates.items()
        if PRECISIONS.index(next(one for one in PRECISIONS if one == precision)) <= most
    ]
    peak_R = np.max(peaks, axis=0)
    read_R = rounds.read_rates[working_sets([cost.read_bytes])[0]]
    by_round = np.array(
        [
            call_limit(cost, peak_flops_per_s=peak, bytes_per_s=read).time_s
            for peak, read in zip(peak_R, read_R, strict=True)
        ]
    )
    whole = call_limit(cost, peak_flops_per_s=float(np.median(peak_R)), bytes_per_s=float(np.median(read_R)))
    return whole, by_round


def _fastest(measured: Measured) -> set[CallKey]:
    """Return, of each question, kind of call and batch, the call with the shortest median among those whose quality passes."""
    best: dict[tuple[str, CallKind, int], CallKey] = {}
    for key, times in measured.rounds.calls.items():
        place, kind, batch = key
        if measured.qualities[place].passes is False:
            continue
        group = (question_of(measured.candidates[place].model), kind, batch)
        if group not in best or _median(times) < _median(measured.rounds.calls[best[group]]):
            best[group] = key
    return set(best.values())


def _median(times: CallTimes) -> float:
    return float(np.median(times.times_s_RN))


def _says(measured: Measured, settings: BenchSettings) -> tuple[str, ...]:
    says = []
    if not measured.predictions:
        says.append("Nothing was predicted: this machine was never calibrated; kleiber calibrate does it.")
    if settings.has_quality and any(model.data is None for model in measured.models):
        names = ", ".join(model.name for model in measured.models if model.data is None)
        says.append(f"Quality of {names} was not measured: a model without a run has no data.")
    for group, num in _sizes_of_questions(measured).items():
        if num == 0:
            says.append(f"Nothing passes the quality gate on {group}.")
    return tuple(says)


def _sizes_of_questions(measured: Measured) -> dict[str, int]:
    """Return how many candidates pass, by the model that each question was first asked of."""
    titles: dict[str, str] = {}
    passing: dict[str, int] = {}
    for candidate, quality in zip(measured.candidates, measured.qualities, strict=True):
        title = titles.setdefault(question_of(candidate.model), candidate.model.name)
        passing[title] = passing.get(title, 0) + (quality.passes is not False)
    return passing
