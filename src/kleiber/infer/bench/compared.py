"""Two benchmarks side by side: two runs, or two machines."""

from __future__ import annotations

from dataclasses import dataclass

from kleiber.errors import UsageError
from kleiber.runs import Estimate
from kleiber.runs.bench_result import BenchCall, BenchResult, BenchRow, CallKind

__all__ = ["Compared", "compared"]


@dataclass(frozen=True)
class Compared:
    """One kind of call that both measured."""

    model: str
    engine: str
    precision: str
    kind: CallKind
    batch: int
    first: BenchCall
    second: BenchCall
    ratio: Estimate
    """Throughput of the second over that of the first; the interval is that of two separate runs."""


def compared(first: BenchResult, second: BenchResult) -> tuple[Compared, ...]:
    """Return what two benchmarks measured both, in the order of the first.

    Calls are the same where model, engine, precision, kind, batch and tokens are. Of two benchmarks of one model each, whatever
    it is called, the models are taken to be the same: a copy on another machine has another name.

    Args:
        first: What ratios are over.
        second: The other.

    Raises:
        UsageError: They have no call in common.
    """
    is_single = len(first.models) == len(second.models) == 1
    others = {_key(row, call, is_single): call for row in second.rows for call in row.calls}
    found = tuple(
        Compared(
            row.model,
            row.engine,
            row.precision,
            call.kind,
            call.batch,
            call,
            other,
            _ratio(other.throughput_per_s, call.throughput_per_s),
        )
        for row in first.rows
        for call in row.calls
        if (other := others.get(_key(row, call, is_single))) is not None
    )
    if not found:
        raise UsageError(
            "the two benchmarks have no call in common: the same model, engine, precision, batch and tokens.",
            hint="kleiber bench runs/small -o bench.json   with the same options on both machines",
        )
    return found


def _key(row: BenchRow, call: BenchCall, is_single: bool) -> tuple[object, ...]:
    name = "" if is_single else row.model
    return name, row.engine, row.precision, call.kind, call.batch, call.num_tokens


def _ratio(top: Estimate, bottom: Estimate) -> Estimate:
    """Return a ratio whose bounds are those of the bounds: wider than either run's own."""
    return Estimate(value=top.value / bottom.value, low=top.low / bottom.high, high=top.high / bottom.low)
