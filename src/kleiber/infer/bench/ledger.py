"""What a benchmark predicted beside what it measured, in the ledger of each run."""

from __future__ import annotations

from pathlib import Path

from kleiber.runs import LedgerEntry, RunFolder, write_ledger
from kleiber.runs.bench_result import BenchCall, BenchResult, BenchRow

__all__ = ["add_to_ledgers", "latency_entries"]


def latency_entries(result: BenchResult, model: str) -> tuple[LedgerEntry, ...]:
    """Return an entry for each call of a model that was predicted.

    Args:
        result: The benchmark.
        model: Its name there.
    """
    return tuple(
        LedgerEntry(
            quantity="latency_s",
            unit="s",
            predicted=call.predicted_s,
            measured=call.p50_s.value,
            predicted_at=result.started_at,
            measured_at=result.created_at,
            method=call.predicted_by,
            subject=_subject(row, call),
        )
        for row in result.rows
        if row.model == model
        for call in row.calls
        if call.predicted_s is not None and call.predicted_by is not None
    )


def add_to_ledgers(result: BenchResult) -> tuple[Path, ...]:
    """Write what was predicted of runs into their ledgers, over what earlier benchmarks said of the same calls.

    Folders that are no runs have no ledger.

    Args:
        result: The benchmark.

    Returns:
        The ledgers that were written.

    Raises:
        RunFolderError: A ledger does not parse.
        StorageError: The disk refused.
    """
    written = []
    for model in result.models:
        run, entries = RunFolder(Path(model.path)), latency_entries(result, model.name)
        if not (run.exists() and entries):
            continue
        new = {(one.quantity, one.subject) for one in entries}
        kept = [one for one in run.read_ledger() if (one.quantity, one.subject) not in new]
        write_ledger(run.ledger_path, [*kept, *entries])
        written.append(run.ledger_path)
    return tuple(written)


def _subject(row: BenchRow, call: BenchCall) -> str:
    tokens = "" if call.num_tokens is None else f" of {call.num_tokens} tokens"
    return f"{call.kind}{tokens}, {row.title}, batch {call.batch}"
