"""A receipt as people read it: before beside after, engine by engine, then what the gate says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kleiber.cli.output import Output
from kleiber.units import format_bytes, format_count, format_measure, format_seconds

if TYPE_CHECKING:
    from kleiber.runs import Estimate
    from kleiber.runs.receipt import BoundReport, EngineSide, Receipt

__all__ = ["print_receipt"]

_POINTS = ("accuracy", "image_to_text_recall_at_1")
"""Measures that are shares, of which the difference says more than the ratio."""
_MARKS = {True: "met", False: "MISSED"}
_WORKLOADS = {"forward": "whole inputs", "decode": "a token"}


def print_receipt(out: Output, receipt: Receipt) -> None:
    """Print what a compression did to a model, and what it has to say."""
    out.say("\n" + " -> ".join(step.step for step in receipt.steps))
    out.table(["", "before", "after", "ratio"], [*_sizes(receipt), *_quality(receipt)])
    if receipt.engines:
        out.table(["at batch 1, at saturation", "before", "after", "ratio"], list(_engines(receipt)))
    if receipt.gate:
        out.table(
            ["bound", "asked", "got", ""],
            [[one.name, one.asked, _got(one), _MARKS[one.is_met]] for one in receipt.gate],
        )
    notes = [note for step in receipt.steps for note in step.notes]
    notes += receipt.calibration.notes
    for sentence in dict.fromkeys((*receipt.says, *notes, *_precisions(receipt))):
        out.say(f"- {sentence}")
    for left in receipt.left_out:
        out.say(f"- {left.engine} ({left.workload}) was left out: {left.reason}")


def _sizes(receipt: Receipt) -> Iterator[list[str]]:
    before, after = receipt.before, receipt.after
    for name, ours, theirs, show in (
        ("bytes on disk", before.stored_bytes, after.stored_bytes, format_bytes),
        ("parameters", before.num_params, after.num_params, format_count),
        ("not 0", before.num_nonzero, after.num_nonzero, format_count),
        ("multiply-adds a sample", before.macs, after.macs, format_count),
    ):
        yield [name, show(ours), show(theirs), f"{theirs / ours:.3f}"]


def _quality(receipt: Receipt) -> Iterator[list[str]]:
    for one in receipt.quality:
        is_share = one.name in _POINTS
        change = f"{one.difference.value:+.4f}{_between(one.difference)}" if is_share else _ratio(one.ratio)
        yield [
            f"{one.name} ({one.engine})",
            format_measure(one.before.value),
            format_measure(one.after.value),
            change,
        ]


def _engines(receipt: Receipt) -> Iterator[list[str]]:
    sides = [
        {(one.engine, one.workload): one for one in side.engines} for side in (receipt.before, receipt.after)
    ]
    for ratio in receipt.engines:
        before, after = (side[ratio.engine, ratio.workload] for side in sides)
        latencies = (format_seconds(one.latency_s.value) for one in (before, after))
        yield [f"{ratio.engine}, {_WORKLOADS[ratio.workload]}", *latencies, _ratio(ratio.latency)]
        yield ["  throughput", _rate(before), _rate(after), _ratio(ratio.throughput)]
        if ratio.peak_memory is not None:
            memories = (format_bytes(one.peak_memory_bytes or 0) for one in (before, after))
            yield ["  peak memory", *memories, f"{ratio.peak_memory:.3f}"]


def _precisions(receipt: Receipt) -> Iterator[str]:
    """Yield what each engine computes in, once."""
    for name in dict.fromkeys(one.engine for one in receipt.after.engines):
        own = dict.fromkeys(one.precision for one in receipt.after.engines if one.engine == name)
        yield f"{name} computes in {'; '.join(own)}."


def _got(bound: BoundReport) -> str:
    return format_bytes(bound.got) if bound.unit == "B" else f"{bound.got:.3g} {bound.unit}"


def _rate(side: EngineSide) -> str:
    return f"{format_count(side.throughput_per_s.value)}/s"


def _ratio(estimate: Estimate) -> str:
    return f"{estimate.value:.3f}{_between(estimate)}"


def _between(estimate: Estimate) -> str:
    return f" ({estimate.low:.3f} to {estimate.high:.3f})"
