"""From what stands in a study's folder to points: one value of each size, by quantity."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from kleiber.cost import Calibration
from kleiber.runs import Baseline, BaselineResult, Record, RunFolder, now
from kleiber.runs.bench_result import BenchCall, BenchResult
from kleiber.study.growing.design import Member, StudyDesign, sized
from kleiber.study.growing.document import Point, Quantity
from kleiber.study.growing.jobs import RUNS, runs_of
from kleiber.study.growing.measured import Gradient, Overfit, RateFound, Stepped, read_measured
from kleiber.study.growing.spikes import count_spikes
from kleiber.study.growing.trend import sd_estimate, share_estimate
from kleiber.study.plan import plan

__all__ = ["BENCH_FILE", "QUALITY", "Found", "best_baseline", "points_of"]

BENCH_FILE = "bench.json"
QUALITY: Mapping[str, tuple[Quantity, ...]] = {
    "lm": ("loss",),
    "classification": ("error_frac", "loss"),
    "regression": ("mean_absolute_error", "loss"),
}
"""What says how good a model is, by task; the loss of others."""
_T_95 = 1.96


@dataclass(frozen=True)
class Found:
    """A study's folder, read."""

    design: StudyDesign
    members: tuple[Member, ...]
    folder: Path

    @cached_property
    def runs(self) -> dict[str, list[tuple[RunFolder, Record]]]:
        """Finished runs of each size."""
        found: dict[str, list[tuple[RunFolder, Record]]] = {}
        for member in self.members:
            folders = [RunFolder(self.folder / RUNS / name) for name, _ in runs_of(self.design, member)]
            pairs = [(one, one.read_record()) for one in folders if one.exists()]
            found[member.name] = [pair for pair in pairs if pair[1].result is not None]
        return found

    @cached_property
    def num_diverged(self) -> dict[str, int]:
        """Failed runs of each size."""
        return {
            member.name: sum(
                one.exists() and one.read_record().status == "failed"
                for one in (RunFolder(self.folder / RUNS / name) for name, _ in runs_of(self.design, member))
            )
            for member in self.members
        }

    @cached_property
    def steps(self) -> dict[str, Stepped]:
        """Measured steps of each size."""
        found = {one.name: read_measured(self.folder, Stepped, one.name) for one in self.members}
        return {name: one for name, one in found.items() if one}

    @cached_property
    def bench(self) -> BenchResult | None:
        """Latencies."""
        path = self.folder / BENCH_FILE
        return BenchResult.read(path) if path.is_file() else None


def points_of(found: Found, quantity: Quantity) -> list[Point]:
    """Return the points of a quantity, smallest size first; none where it was not measured."""
    of_member = _SOURCES[quantity]
    points = (of_member(found, member) for member in found.members)
    return [point for point in points if point is not None and math.isfinite(point.value)]


def _point(member: Member, value: float, low: float | None = None, high: float | None = None, *,
           predicted: float | None = None, is_bound: bool = False, num_runs: int = 1) -> Point:  # fmt: skip
    return Point(
        member=member.name,
        num_params=member.num_params,
        lines=member.lines,
        value=value,
        low=low,
        high=high,
        predicted=predicted,
        is_bound=is_bound,
        num_runs=num_runs,
    )


def _over_runs(value_of: Callable[[Record], float | None]) -> Callable[[Found, Member], Point | None]:
    """Return the mean over a size's runs; its interval is that of seeds, from three on."""

    def point(found: Found, member: Member) -> Point | None:
        values = [value for _, record in found.runs[member.name] if (value := value_of(record)) is not None]
        if not values:
            return None
        mean = statistics.fmean(values)
        if len(values) < 3:
            return _point(member, mean, num_runs=len(values))
        half = _student(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
        return _point(member, mean, mean - half, mean + half, num_runs=len(values))

    return point


def _student(freedom: int) -> float:
    from scipy.stats import t  # noqa: PLC0415 - SciPy is not for every command

    return float(t.ppf(0.975, freedom))


def _val_loss(record: Record) -> float | None:
    return record.result.val_loss if record.result else None


def _metric(name: str, turn: Callable[[float], float]) -> Callable[[Record], float | None]:
    def value_of(record: Record) -> float | None:
        metrics = record.result.val_metrics if record.result else {}
        return turn(metrics[name].value) if name in metrics else None

    return value_of


def _step_time(found: Found, member: Member) -> Point | None:
    measured = found.steps.get(member.name)
    times = [record.result.step_time_s for _, record in found.runs[member.name] if record.result]
    if measured is None or not times:
        return None
    predicted = _planned(found, member)
    value = statistics.median(times)
    return _point(
        member,
        value,
        min(times),
        max(times),
        predicted=predicted[0] if predicted else None,
        num_runs=len(times),
    )


def _memory(found: Found, member: Member) -> Point | None:
    measured = found.steps.get(member.name)
    if measured is None or measured.probe.peak_memory_bytes is None:
        return None
    predicted = _planned(found, member)
    return _point(member, measured.probe.peak_memory_bytes, predicted=predicted[1] if predicted else None)


def _planned(found: Found, member: Member) -> tuple[float, float] | None:
    """Return a step's time [s] and peak [bytes] as foretold from the steps of the other sizes."""
    others = [one.probe for name, one in found.steps.items() if name != member.name]
    if len(others) < 2:
        return None
    peak = statistics.median(one.peak_flops_per_s for one in found.steps.values())
    calibration = Calibration(measured_at=now(), peak_flops_per_s={1: peak}, probes=tuple(others))
    recipe = sized(found.design.base, member.model)
    # One step: a validation would be counted, which the measured steps have not.
    recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"num_steps": 1})})
    said = plan(recipe, calibration=calibration, num_processes=found.design.num_workers)
    probe = found.steps[member.name].probe
    overheads = [
        one.peak_memory_bytes - one.planned_peak_bytes
        for one in others
        if one.peak_memory_bytes is not None and one.planned_peak_bytes is not None
    ]
    tensors = probe.planned_peak_bytes or said.memory_bytes.peak
    return said.step_time_s, tensors + max(0.0, statistics.median(overheads) if overheads else 0.0)


def _of_gradient(
    value_of: Callable[[Gradient], float], predicted_of: Callable[[Gradient], float | None] = lambda _: None
) -> Callable[[Found, Member], Point | None]:
    def point(found: Found, member: Member) -> Point | None:
        one = read_measured(found.folder, Gradient, member.name)
        return None if one is None else _point(member, value_of(one), predicted=predicted_of(one))

    return point


def _noise_scale(found: Found, member: Member) -> Point | None:
    one = read_measured(found.folder, Gradient, member.name)
    if one is None or one.noise_scale is None:
        return None
    scale = one.noise_scale
    return _point(member, scale.value, scale.low, scale.high)


def _latency(kind: str) -> Callable[[Found, Member], Point | None]:
    def point(found: Found, member: Member) -> Point | None:
        call = _call(found, member, kind)
        if call is None:
            return None
        return _point(member, call.p50_s.value, call.p50_s.low, call.p50_s.high, predicted=call.predicted_s)

    return point


def _call(found: Found, member: Member, kind: str) -> BenchCall | None:
    name = runs_of(found.design, member)[0][0]
    rows = found.bench.rows if found.bench else ()
    calls = (row.call(kind, 1) for row in rows if row.model == name)
    return next((call for call in calls if call), None)


def _gap(found: Found, member: Member) -> Point | None:
    one = read_measured(found.folder, Overfit, member.name)
    if one is None or not one.epochs:
        return None
    return _point(member, one.val_losses[-1] - one.train_losses[-1])


def _onset(found: Found, member: Member) -> Point | None:
    """Return the epoch of the lowest held-out loss; a bound where it was still falling at the end."""
    one = read_measured(found.folder, Overfit, member.name)
    if one is None or not one.epochs:
        return None
    place = min(range(len(one.epochs)), key=one.val_losses.__getitem__)
    last = len(one.epochs) - 1
    return _point(
        member,
        one.epochs[place],
        one.epochs[max(0, place - 1)],
        one.epochs[min(last, place + 1)],
        is_bound=place == last,
    )


def _highest_rate(found: Found, member: Member) -> Point | None:
    one = read_measured(found.folder, RateFound, member.name)
    if one is None or one.stable is None:
        return None
    low = one.matrix_lr * one.stable
    if one.unstable is None:
        return _point(member, low, is_bound=True)
    high = one.matrix_lr * one.unstable
    return _point(member, math.sqrt(low * high), low, high)


def _spikes(found: Found, member: Member) -> Point | None:
    counts = [
        count_spikes([float(line["loss"]) for line in folder.read_metrics()])
        for folder, _ in found.runs[member.name]
    ]
    num_steps = sum(steps for _, steps in counts)
    if not num_steps:
        return None
    rate = share_estimate(sum(spikes for spikes, _ in counts), num_steps)
    return _point(member, rate.value, rate.low, rate.high, num_runs=len(counts))


def _seed_sd(found: Found, member: Member) -> Point | None:
    losses = [loss for _, record in found.runs[member.name] if (loss := _val_loss(record)) is not None]
    if len(losses) < 3 or min(losses) <= 0:
        return None
    sd = sd_estimate([math.log(loss) for loss in losses])
    return _point(member, sd.value, sd.low, sd.high, num_runs=len(losses))


_SOURCES: Mapping[Quantity, Callable[[Found, Member], Point | None]] = {
    "loss": _over_runs(_val_loss),
    "error_frac": _over_runs(_metric("accuracy", lambda value: 1 - value)),
    "mean_absolute_error": _over_runs(_metric("mean_absolute_error", lambda value: value)),
    "train_flops": _over_runs(lambda record: record.train_flops),
    "step_time_s": _step_time,
    "peak_memory_bytes": _memory,
    "stored_bytes": _of_gradient(lambda one: one.stored_bytes, lambda one: one.planned_stored_bytes),
    "packed_bytes": _of_gradient(lambda one: one.packed_bytes),
    "gradient_bytes": _of_gradient(lambda one: one.gradient_bytes),
    "packed_gradient_bytes": _of_gradient(lambda one: one.packed_gradient_bytes),
    "decode_s": _latency("decode"),
    "forward_s": _latency("forward"),
    "gap": _gap,
    "onset_epoch": _onset,
    "highest_rate": _highest_rate,
    "spike_frac": _spikes,
    "noise_scale": _noise_scale,
    "seed_sd": _seed_sd,
}


def best_baseline(baseline: Baseline | None, quantity: Quantity) -> tuple[float, str] | None:
    """Return what the best classical method reaches of a measure of quality, and its name."""
    turned: Mapping[Quantity, tuple[str, Callable[[float], float]]] = {
        "loss": ("perplexity", math.log),
        "error_frac": ("accuracy", lambda value: 1 - value),
        "mean_absolute_error": ("mean_absolute_error", lambda value: value),
    }
    if baseline is None or quantity not in turned:
        return None
    name, turn = turned[quantity]
    results: Sequence[BaselineResult] = [one for one in baseline.results if name in one.val_metrics]
    reached = [(turn(one.val_metrics[name].value), one.method) for one in results]
    return min(reached, default=None)
