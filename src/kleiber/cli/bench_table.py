"""A benchmark as rows of text: for the terminal, for Markdown, for CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from kleiber.units import format_bytes, format_count, format_flops, format_measure, format_seconds

if TYPE_CHECKING:
    from kleiber.cli.output import Output
    from kleiber.infer.bench import Compared
    from kleiber.runs import Estimate
    from kleiber.runs.bench_result import BenchCall, BenchResult, BenchRow, ComputePeak

__all__ = ["as_csv", "as_markdown", "print_bench", "print_compared"]

_KINDS = {"prefill": "prompt", "decode": "tokens", "forward": "samples"}
_HEADERS = ("", "batch", "p50", "p95", "p99", "a second", "gain", "limit", "predicted", "")
_BOUNDS = {"compute": "FLOP", "bandwidth": "byte"}
"""What a call is bound by, as the column says it."""
_CSV = (
    "model", "engine", "precision", "computes_in", "kind", "batch", "num_tokens", "p50_s", "p50_low_s", "p50_high_s", "p95_s",
    "p99_s", "throughput_per_s", "throughput_low_per_s", "throughput_high_per_s", "gain", "gain_low", "gain_high", "flops",
    "read_bytes", "bound", "limit_s", "limit_frac", "predicted_s", "is_fastest", "load_s", "peak_memory_bytes", "measure", "quality",
    "quality_low", "quality_high", "quality_loss", "quality_loss_low", "quality_loss_high", "passes",
)  # fmt: skip


def print_bench(out: Output, result: BenchResult) -> None:
    """Print what a benchmark measured."""
    for title, headers, lines in _tables(result):
        out.say(f"\n{title}")
        out.table(list(headers), [list(line) for line in lines])
    for sentence in _sentences(result):
        out.say(f"- {sentence}")


def as_markdown(result: BenchResult) -> str:
    """Return the same tables in Markdown."""
    parts = [f"Benchmark on {_machine(result)}, {result.created_at}."]
    for title, headers, lines in _tables(result):
        rule = ["---", *["---:"] * (len(headers) - 1)]
        rows = [_line(headers), _line(rule), *map(_line, lines)]
        parts += [f"**{title}**", "\n".join(rows)]
    parts.append("\n".join(f"- {sentence}" for sentence in _sentences(result)))
    return "\n\n".join(parts) + "\n"


def as_csv(result: BenchResult) -> str:
    """Return one line for each kind of call, engine, precision and batch; numbers as they were measured."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_CSV)
    for row in result.rows:
        for call in row.calls:
            writer.writerow("" if value is None else value for value in _values(row, call))
    return text.getvalue()


def print_compared(out: Output, pairs: Sequence[Compared], first: BenchResult, second: BenchResult) -> None:
    """Print two benchmarks side by side."""
    out.table(
        ["", "batch", "first", "second", "second over first"],
        [
            [
                f"{one.model}, {one.engine} {one.precision}: {_KINDS[one.kind]}",
                str(one.batch),
                f"{format_count(one.first.throughput_per_s.value)}/s",
                f"{format_count(one.second.throughput_per_s.value)}/s",
                _between(one.ratio),
            ]
            for one in pairs
        ],
    )
    for name, result in (("first", first), ("second", second)):
        out.say(f"- {name}: {_machine(result)}, {result.created_at}.")
    out.say("- They are two runs: what disturbed one of them did not disturb the other.")


def _tables(result: BenchResult) -> Iterator[tuple[str, Sequence[str], list[Sequence[str]]]]:
    for model in result.models:
        rows = [row for row in result.rows if row.model == model.name]
        for kind in dict.fromkeys(call.kind for row in rows for call in row.calls):
            calls = [(row, call) for row in rows for call in row.calls if call.kind == kind]
            if not calls:
                continue
            tokens = calls[0][1].num_tokens
            title = f"{model.name}: {_KINDS[kind]}" + ("" if tokens is None else f", {tokens} of each")
            lines = [_shown(row, call) for row, call in calls]
            yield title, *_without_blank(_HEADERS, lines)
        if rows:
            headers = ("", "computes in", "load", "peak memory", *_quality_headers(rows))
            lines = [_costs(row, len(headers)) for row in rows]
            yield f"{model.name}: memory and quality", *_without_blank(headers, lines)


def _without_blank(
    headers: Sequence[str], lines: Sequence[Sequence[str]]
) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Return a table without the columns of what was not asked for or is not known of any row."""
    kept = [at for at in range(len(headers)) if any(line[at] for line in lines)]
    return [headers[at] for at in kept], [[line[at] for at in kept] for line in lines]


def _shown(row: BenchRow, call: BenchCall) -> Sequence[str]:
    predicted = ""
    if call.predicted_s is not None:
        error = call.predicted_s / call.p50_s.value - 1
        predicted = f"{format_seconds(call.predicted_s)} ({error:+.0%})"
    return (
        row.title,
        str(call.batch),
        format_seconds(call.p50_s.value),
        format_seconds(call.p95_s.value),
        format_seconds(call.p99_s.value),
        f"{format_count(call.throughput_per_s.value)} ±{_half_width(call.throughput_per_s):.0%}",
        _between(call.gain),
        f"{call.limit_frac.value:.0%} {_BOUNDS[call.bound]}",
        predicted,
        "fastest" if call.is_fastest else "",
    )


def _quality_headers(rows: Sequence[BenchRow]) -> tuple[str, ...]:
    measured = next((row for row in rows if row.quality), None)
    if measured is None:
        return ()
    return (next(one.name for one in measured.quality if one.is_main), "lost", "")


def _costs(row: BenchRow, num_columns: int) -> Sequence[str]:
    cells = [
        row.title,
        row.computes_in,
        "" if row.load_s is None else format_seconds(row.load_s),
        "" if row.peak_memory_bytes is None else format_bytes(row.peak_memory_bytes),
    ]
    main = next((one for one in row.quality if one.is_main), None)
    if main is None or row.quality_loss is None:
        return [*cells, *[""] * (num_columns - len(cells))]
    loss = row.quality_loss
    lost = f"{loss.value:+.2%} ({loss.low:+.2%} to {loss.high:+.2%})"
    return [*cells, format_measure(main.after.value), lost, "passes" if row.passes else "MISSED"]


def _sentences(result: BenchResult) -> Iterator[str]:
    settings = result.settings
    yield f"Gains are over {result.reference}, from the same {settings.num_rounds} rounds; {_machine(result)}."
    if any(row.quality for row in result.rows):
        yield f"The fastest is that of those that lose at most {settings.max_quality_loss:.2%} of the measure."
    yield (
        "limit: the least time, by bytes that must be read or by operations, over the median; both rates were measured here in "
        "the same rounds."
    )
    yield _limits(result)
    yield from dict.fromkeys(
        (*result.says, *(f"{row.title}: {note}" for row in result.rows for note in row.notes))
    )
    for model in result.models:
        yield from (f"{model.name}: {note}" for note in model.notes)
    for left in result.left_out:
        yield f"{left.model}, {left.engine} {left.precision} was left out: {left.reason}"


def _limits(result: BenchResult) -> str:
    rates = result.machine.memory_rates
    read = ", ".join(
        f"{format_bytes(one.bytes_per_s.value)}/s of {format_bytes(one.working_set_bytes)}"
        for one in dict.fromkeys((rates[0], rates[-1]))
    )
    best: dict[str, ComputePeak] = {}
    for peak in result.machine.compute_peaks:
        if peak.precision not in best or peak.flops_per_s.value > best[peak.precision].flops_per_s.value:
            best[peak.precision] = peak
    products = ", ".join(
        f"{format_flops(one.flops_per_s.value)}/s in {one.precision} ({one.engine})" for one in best.values()
    )
    return f"Limits: memory is read at {read}; products of matrices reach {products}."


def _machine(result: BenchResult) -> str:
    threads = result.settings.num_threads
    return f"{result.machine.processor}, {threads} thread{'s' if threads > 1 else ''}"


def _values(row: BenchRow, call: BenchCall) -> tuple[object, ...]:
    main = next((one for one in row.quality if one.is_main), None)
    return (
        row.model, row.engine, row.precision, row.computes_in, call.kind, call.batch, call.num_tokens,
        *_spread(call.p50_s), call.p95_s.value, call.p99_s.value, *_spread(call.throughput_per_s), *_spread(call.gain),
        call.flops, call.read_bytes, call.bound, call.limit_s, call.limit_frac.value, call.predicted_s, call.is_fastest,
        row.load_s, row.peak_memory_bytes, None if main is None else main.name,
        *_spread(None if main is None else main.after), *_spread(row.quality_loss), row.passes,
    )  # fmt: skip


def _spread(estimate: Estimate | None) -> tuple[float | None, ...]:
    return (None,) * 3 if estimate is None else (estimate.value, estimate.low, estimate.high)


def _half_width(estimate: Estimate) -> float:
    """Return the interval's larger side as a share of the value."""
    return max(estimate.high - estimate.value, estimate.value - estimate.low) / estimate.value


def _between(estimate: Estimate) -> str:
    return f"{estimate.value:.2f} ({estimate.low:.2f}-{estimate.high:.2f})"


def _line(cells: Sequence[str]) -> str:
    escaped = (cell.replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"
