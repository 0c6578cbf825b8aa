"""Compressions: what a model was and is, by its receipt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kleiber.report.measures import format_estimate, format_measure, measure_name
from kleiber.report.sources import Sources
from kleiber.report.tables import EMPTY, Cell, Table, format_frac, table_of
from kleiber.report.words import Words
from kleiber.runs import Estimate
from kleiber.runs.receipt import BoundReport, Receipt, ReceiptSide
from kleiber.units import format_bytes, format_count, format_seconds

__all__ = ["ReceiptView", "receipt_views"]

_BOUNDS = ("max_quality_loss", "max_bytes", "max_latency_ms", "min_speedup")
_SHARES = ("accuracy", "image_to_text_recall_at_1")
"""Measures whose difference says more than their ratio."""


@dataclass(frozen=True)
class ReceiptView:
    """One receipt as tables and sentences."""

    run: str
    chart: str
    """Name of the chart of what was tried."""
    summary: str
    steps: Table | None
    sizes: Table | None
    engines: Table | None
    quality: Table | None
    quality_caption: str
    gate: Table | None
    tried: Table | None
    says: tuple[str, ...]


def receipt_views(sources: Sources, words: Words) -> list[ReceiptView]:
    """Return the receipts of all compressions, in the order of the runs."""
    return [
        _view(run.record.run, index, run.receipt, words)
        for index, run in enumerate(sources.runs)
        if run.receipt is not None
    ]


def _view(run: str, index: int, receipt: Receipt, words: Words) -> ReceiptView:
    notes = (note for step in receipt.steps for note in step.notes)
    left_out = (
        f"{one.engine} ({words(f'workload_{one.workload}')}): {one.reason}" for one in receipt.left_out
    )
    steps = ((one.step, format_seconds(one.seconds)) for one in receipt.steps)
    kind = "quality_on_test" if receipt.split == "test" else "quality_on_validation"
    return ReceiptView(
        run=run,
        chart=f"tried_{index}",
        summary=_summary(receipt, words),
        steps=table_of(words, ("step_taken", "total_time"), steps),
        sizes=table_of(words, ("size", "before", "after", "ratio"), _sizes(receipt, words)),
        engines=table_of(
            words,
            ("engine", "workload", "precision", "latency", "latency_ratio", "throughput", "throughput_ratio", "engine_memory"),
            _engines(receipt, words),
        ),
        quality=table_of(words, ("measure", "engine", "before", "after", "change"), _quality(receipt, words)),
        quality_caption=words(kind),
        gate=table_of(words, ("bound", "asked", "got", "verdict"), (_bound(one, words) for one in receipt.gate)),
        tried=table_of(
            words, ("pipeline", "quality_loss", "stored", "latency", "tokens", "verdict"), _tried(receipt, words)
        ),
        says=tuple(dict.fromkeys((*receipt.says, *left_out, *notes))),
    )  # fmt: skip


def _summary(receipt: Receipt, words: Words) -> str:
    cost = receipt.cost
    return words(
        "receipt_summary",
        source=receipt.source,
        before=format_bytes(receipt.before.stored_bytes),
        after=format_bytes(receipt.after.stored_bytes),
        ratio=format_frac(receipt.stored_ratio),
        time=format_seconds(cost.seconds),
        tokens=format_frac(cost.training_frac),
        samples=receipt.calibration.num_samples,
        seed=receipt.calibration.seed,
    )


def _sizes(receipt: Receipt, words: Words) -> Iterator[tuple[str | Cell, ...]]:
    sizes: tuple[tuple[str, Callable[[ReceiptSide], int], Callable[[float], str]], ...] = (
        (words("size_stored"), lambda side: side.stored_bytes, format_bytes),
        (words("size_raw"), lambda side: side.raw_bytes, format_bytes),
        (words("size_params"), lambda side: side.num_params, format_count),
        (words("size_nonzero"), lambda side: side.num_nonzero, format_count),
        (words("size_macs"), lambda side: side.macs, format_count),
    )
    for name, size, shown in sizes:
        before, after = size(receipt.before), size(receipt.after)
        yield name, shown(before), Cell(shown(after), "truth"), f"{after / max(1, before):.3f}"


def _engines(receipt: Receipt, words: Words) -> Iterator[tuple[str | Cell, ...]]:
    """Yield a row an engine and workload: before to after, and the ratios of rounds that ran in turns."""
    sides = zip(receipt.before.engines, receipt.after.engines, receipt.engines, strict=True)
    for before, after, ratio in sides:
        memory = (before.peak_memory_bytes, after.peak_memory_bytes)
        yield (
            after.engine,
            words(f"workload_{after.workload}"),
            _to(before.precision, after.precision),
            _to(format_seconds(before.latency_s.value), format_seconds(after.latency_s.value)),
            _ratio(ratio.latency, is_better=ratio.latency.high < 1, is_worse=ratio.latency.low > 1),
            _to(format_count(before.throughput_per_s.value), format_count(after.throughput_per_s.value)),
            _ratio(ratio.throughput, is_better=ratio.throughput.low > 1, is_worse=ratio.throughput.high < 1),
            EMPTY if None in memory else _to(*(format_bytes(one or 0) for one in memory)),
        )


def _to(before: str, after: str) -> str:
    return before if before == after else f"{before} → {after}"


def _ratio(estimate: Estimate, *, is_better: bool, is_worse: bool) -> Cell:
    text = f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"
    return Cell(text, "good" if is_better else "bad" if is_worse else "")


def _quality(receipt: Receipt, words: Words) -> Iterator[tuple[str | Cell, ...]]:
    for one in receipt.quality:
        if one.name in _SHARES:
            points = Estimate(**{key: 100 * getattr(one.difference, key) for key in ("value", "low", "high")})
            change = words("points", change=format_estimate("points", points))
        else:
            change = words("times", ratio=format_estimate("ratio", one.ratio))
        before, after = (format_measure(one.name, side.value) for side in (one.before, one.after))
        yield measure_name(one.name, words), one.engine, before, Cell(after, "truth"), change


def _bound(one: BoundReport, words: Words) -> tuple[str | Cell, ...]:
    name = words(f"bound_{one.name}") if one.name in _BOUNDS else one.name
    got = format_bytes(one.got) if one.unit == "B" else f"{one.got:.3g} {one.unit}".replace("-", "−")
    verdict = Cell(words("bound_met"), "good") if one.is_met else Cell(words("bound_missed"), "bad")
    return name, one.asked, got, verdict


def _tried(receipt: Receipt, words: Words) -> Iterator[tuple[str | Cell, ...]]:
    for one in sorted(receipt.tried, key=lambda one: one.stored_bytes):
        verdict = "chosen" if one.is_chosen else "on_front" if one.is_on_front else ""
        tone = {"chosen": "truth", "on_front": "accent"}.get(verdict, "empty")
        yield (
            " ".join(one.steps),
            format_frac(one.quality_loss, signed=True),
            format_bytes(one.stored_bytes),
            EMPTY if one.latency_s is None else format_seconds(one.latency_s),
            format_count(one.training_tokens),
            Cell(words(f"tried_{verdict}") if verdict else EMPTY, tone),
        )
