"""What was planned of a run beside what it took."""

from __future__ import annotations

from kleiber.runs import LedgerEntry, Record

__all__ = ["plan_entries"]


def plan_entries(record: Record) -> tuple[LedgerEntry, ...]:
    """Return the ledger of time and memory: what the record says was predicted, beside its result.

    A run without a result or a prediction has none.
    """
    predicted, result = record.predicted, record.result
    if result is None or predicted.at is None:
        return ()
    pairs = (
        ("total_time_s", "s", predicted.total_time_s, result.total_time_s),
        ("step_time_s", "s", predicted.step_time_s, result.step_time_s),
        ("peak_memory_bytes", "B", predicted.peak_memory_bytes, float(result.peak_memory_bytes)),
    )
    return tuple(
        LedgerEntry(
            quantity=quantity,
            unit=unit,
            predicted=said,
            measured=measured,
            predicted_at=predicted.at,
            measured_at=record.ended_at or record.started_at,
            method="plan",
        )
        for quantity, unit, said, measured in pairs
        # A measurement of 0 is none: where the system does not tell the peak of memory.
        if said is not None and measured > 0
    )
