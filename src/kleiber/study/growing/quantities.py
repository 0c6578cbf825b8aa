"""From what stands in a study's folder to points: one value of each size, by quantity."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping

from kleiber.runs import Record, guessing_loss, has_learnt
from kleiber.runs.bench_result import BenchCall
from kleiber.study.growing.design import Member
from kleiber.study.growing.document import Point, Quantity
from kleiber.study.growing.file_overhead import file_overhead_bytes
from kleiber.study.growing.foretold import foretold_step
from kleiber.study.growing.found import Found
from kleiber.study.growing.jobs import runs_of
from kleiber.study.growing.measured import Gradient, Overfit, RateFound, read_measured
from kleiber.study.growing.spikes import count_spikes
from kleiber.study.growing.trend import sd_estimate, share_estimate
from kleiber.study.growing.uncertainty import log10_error, log10_error_in, log10_error_of, student_95

__all__ = ["QUALITY", "WHY_WITHOUT", "num_sought", "points_of"]

QUALITY: Mapping[str, tuple[Quantity, ...]] = {
    "lm": ("loss",),
    "classification": ("error_frac", "loss"),
    "regression": ("mean_absolute_error", "loss"),
}
"""What says how good a model is, by task; the loss of others."""
WHY_WITHOUT: Mapping[Quantity, str] = {
    "highest_rate": "did_not_train",
    "noise_scale": "not_told_from_zero",
}
"""Why a size has no value, of quantities that may have none though all was measured."""
_OF_TRAINED: frozenset[Quantity] = frozenset(
    ("loss", "error_frac", "mean_absolute_error", "gap", "onset_epoch", "highest_rate", "spike_frac", "noise_scale", "seed_sd")
)  # fmt: skip
"""What a size that has learnt nothing says nothing of."""
_OF_BOTH: frozenset[Quantity] = frozenset(("gap", "onset_epoch", "seed_sd"))
"""What is sought along depth and width together alone."""


def points_of(found: Found, quantity: Quantity) -> list[Point]:
    """Return the points of a quantity, smallest size first; none where it was not measured."""
    of_member = _SOURCES[quantity]
    points = []
    for member in found.members:
        point = of_member(found, member)
        if point is not None and math.isfinite(point.value):
            has_trained = quantity not in _OF_TRAINED or found.has_trained(member)
            points.append(point.model_copy(update={"has_trained": has_trained}))
    return points


def num_sought(found: Found, quantity: Quantity) -> int:
    """Return of how many sizes a quantity is sought."""
    return sum(quantity not in _OF_BOTH or "both" in member.lines for member in found.members)


def _point(member: Member, value: float, low: float | None = None, high: float | None = None, *,
           predicted: float | None = None, error: float | None = None, is_bound: bool = False, num_runs: int = 1) -> Point:  # fmt: skip
    return Point(
        member=member.name,
        num_params=member.num_params,
        lines=member.lines,
        value=value,
        low=low,
        high=high,
        predicted=predicted,
        standard_error=error,
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
        times = student_95(len(values) - 1)
        if min(values) <= 0:
            error = statistics.stdev(values) / math.sqrt(len(values))
            # Standard errors go with log10 where the value has one.
            of_log = error / mean / math.log(10) if mean > 0 else error
            return _point(
                member, mean, mean - times * error, mean + times * error, error=of_log, num_runs=len(values)
            )
        error = log10_error(values)
        ends = (mean * 10 ** (sign * times * error) for sign in (-1, 1))
        return _point(member, mean, *ends, error=error, num_runs=len(values))

    return point


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
    predicted = foretold_step(found, member)
    value = statistics.median(times)
    return _point(
        member,
        value,
        min(times),
        max(times),
        predicted=predicted[0] if predicted else None,
        error=log10_error(times) if len(times) > 1 else None,
        num_runs=len(times),
    )


def _memory(found: Found, member: Member) -> Point | None:
    measured = found.steps.get(member.name)
    if measured is None or measured.probe.peak_memory_bytes is None:
        return None
    predicted = foretold_step(found, member)
    return _point(member, measured.probe.peak_memory_bytes, predicted=predicted[1] if predicted else None)


def _stored_bytes(found: Found, member: Member) -> Point | None:
    """Return the bytes of the weights' file; foretold from the parameters and what other sizes' files hold beside theirs."""
    one = found.gradients.get(member.name)
    if one is None:
        return None
    others = [
        (other.spec.depth, weighed.stored_bytes - weighed.planned_stored_bytes)
        for other in found.members
        if other.name != member.name and (weighed := found.gradients.get(other.name))
    ]
    predicted = one.planned_stored_bytes + file_overhead_bytes(member.spec.depth, others)
    return _point(member, one.stored_bytes, predicted=predicted)


def _of_gradient(value_of: Callable[[Gradient], float]) -> Callable[[Found, Member], Point | None]:
    def point(found: Found, member: Member) -> Point | None:
        one = found.gradients.get(member.name)
        return None if one is None else _point(member, value_of(one))

    return point


def _noise_scale(found: Found, member: Member) -> Point | None:
    one = found.gradients.get(member.name)
    if one is None or one.noise_scale is None:
        return None
    scale = one.noise_scale
    return _point(member, scale.value, scale.low, scale.high, error=log10_error_of(scale.low, scale.high))


def _latency(kind: str) -> Callable[[Found, Member], Point | None]:
    def point(found: Found, member: Member) -> Point | None:
        call = _call(found, member, kind)
        if call is None:
            return None
        time_s = call.p50_s
        error = log10_error_of(time_s.low, time_s.high)
        return _point(member, time_s.value, time_s.low, time_s.high, predicted=call.predicted_s, error=error)

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
    if place == last:
        return _point(member, one.epochs[place], is_bound=True)
    low, high = one.epochs[max(0, place - 1)], one.epochs[place + 1]
    error = log10_error_in(low, high)
    return _point(member, one.epochs[place], low, high, error=error)


def _highest_rate(found: Found, member: Member) -> Point | None:
    one = read_measured(found.folder, RateFound, member.name)
    if one is None or one.stable is None or one.losses[0] is None:
        return None
    if not has_learnt(one.losses[0], guessing_loss(found.design.base)):
        return None  # half of nothing is learnt at any rate
    low = one.matrix_lr * one.stable
    if one.unstable is None:
        return _point(member, low, is_bound=True)
    high = one.matrix_lr * one.unstable
    return _point(member, math.sqrt(low * high), low, high, error=log10_error_in(low, high))


def _spikes(found: Found, member: Member) -> Point | None:
    counts = [
        count_spikes([float(line["loss"]) for line in folder.read_metrics()])
        for folder, _ in found.runs[member.name]
    ]
    num_steps = sum(steps for _, steps in counts)
    if not num_steps:
        return None
    num_spikes = sum(spikes for spikes, _ in counts)
    rate = share_estimate(num_spikes, num_steps)
    # A count of k has the standard deviation sqrt(k), its logarithm 1 / sqrt(k).
    error = 1 / math.sqrt(num_spikes) / math.log(10) if num_spikes else 1 / num_steps
    return _point(member, rate.value, rate.low, rate.high, error=error, num_runs=len(counts))


def _seed_sd(found: Found, member: Member) -> Point | None:
    losses = found.val_losses(member)
    if len(losses) < 3 or min(losses) <= 0:
        return None
    sd = sd_estimate([math.log(loss) for loss in losses])
    # Of the logarithm of a standard deviation of n normal values, to first order.
    error = 1 / math.sqrt(2 * (len(losses) - 1)) / math.log(10)
    return _point(member, sd.value, sd.low, sd.high, error=error, num_runs=len(losses))


_SOURCES: Mapping[Quantity, Callable[[Found, Member], Point | None]] = {
    "loss": _over_runs(lambda record: record.result.val_loss if record.result else None),
    "error_frac": _over_runs(_metric("accuracy", lambda value: 1 - value)),
    "mean_absolute_error": _over_runs(_metric("mean_absolute_error", lambda value: value)),
    "train_flops": _over_runs(lambda record: record.train_flops),
    "step_time_s": _step_time,
    "peak_memory_bytes": _memory,
    "stored_bytes": _stored_bytes,
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
