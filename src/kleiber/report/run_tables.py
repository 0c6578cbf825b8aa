"""Tables of runs: what came out of each by every measure, beside what classical methods reach."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kleiber.report.measures import format_estimate, format_measure, main_measures, measure_name, method_name
from kleiber.report.sources import RunView, Sources
from kleiber.report.tables import EMPTY, Cell, Table, format_frac, table_of
from kleiber.report.words import Words
from kleiber.units import format_bytes, format_count, format_loss, format_seconds

__all__ = ["measures_table", "runs_table"]


def runs_table(sources: Sources, words: Words) -> Table | None:
    """Return every run: what came out, how fast, with how much memory."""
    measures = main_measures(sources)
    before = tuple(words(f"col_{key}") for key in ("run", "status", "params", "tokens", "val_loss"))
    after = tuple(words(f"col_{key}") for key in ("tokens_per_s", "mfu", "peak_memory", "total_time"))
    rows = tuple(_run_row(run, measures, words) for run in sources.runs)
    head = (*before, *(measure_name(key, words) for key in measures), *after)
    return Table(head, rows, text=frozenset({1})) if rows else None


def _run_row(run: RunView, measures: Sequence[str], words: Words) -> tuple[Cell, ...]:
    record, result = run.record, run.record.result
    tone = {"failed": "bad", "finished": ""}.get(record.status, "accent")
    head = (
        Cell(record.run),
        Cell(words(f"status_{record.status}"), tone),
        Cell(format_count(record.num_params.total)),
    )
    if result is None:
        tokens = max((line.get("tokens") or 0 for line in run.metrics), default=0)
        return (*head, Cell(format_count(tokens)), *(Cell(EMPTY),) * (5 + len(measures)))
    reached = (result.val_metrics.get(key) for key in measures)
    texts = (
        format_count(result.num_tokens),
        _with_half_width(result.val_loss, result.val_loss_half_width),
        *(
            EMPTY if one is None else format_measure(key, one.value)
            for key, one in zip(measures, reached, strict=True)
        ),
        format_count(result.tokens_per_s),
        format_frac(result.mfu_frac),
        format_bytes(result.peak_memory_bytes),
        format_seconds(result.total_time_s),
    )
    return (*head, *map(Cell, texts))


def _with_half_width(loss: float, half_width: float | None) -> str:
    return format_loss(loss) if half_width is None else f"{format_loss(loss)} ± {half_width:.3f}"


def measures_table(sources: Sources, words: Words) -> Table | None:
    """Return every measure of every run with its interval, and beside it that of classical methods on the same data."""
    rows = (row for run in sources.runs for row in _measure_rows(run, words))
    return table_of(words, ("run", "measure", "by", "validation", "test"), rows)


def _measure_rows(run: RunView, words: Words) -> Iterator[tuple[str | Cell, ...]]:
    result = run.record.result
    if result is None:
        return
    methods = [(words("by_model"), result.val_metrics, result.test_metrics)]
    if run.baseline is not None:
        methods += [
            (method_name(one.method, words), one.val_metrics, one.test_metrics)
            for one in run.baseline.results
        ]
    for key in dict.fromkeys([*result.val_metrics, *result.test_metrics]):
        for index, (method, *splits) in enumerate(methods):
            if any(key in split for split in splits):
                tone = "" if index else "truth"
                cells = (Cell(format_estimate(key, split.get(key)), tone) for split in splits)
                yield (run.record.run, measure_name(key, words), method, *cells)
