"""How the ledger is shown: predicted beside measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kleiber.cli.output import Output
from kleiber.runs import LedgerEntry
from kleiber.units import format_accuracy, format_bytes, format_loss, format_seconds

__all__ = ["ledger_document", "print_ledger"]

_QUANTITIES = {
    "val_loss": ("loss", format_loss),
    "val_accuracy": ("accuracy", format_accuracy),
    "total_time_s": ("total time", format_seconds),
    "step_time_s": ("step time", format_seconds),
    "peak_memory_bytes": ("peak memory", format_bytes),
    "stored_bytes": ("bytes on disk", format_bytes),
    "latency_s": ("latency", format_seconds),
}
_NAIVE = {"last_rung": "naive: as the last rung", "log_log_line": "naive: log-log line"}


def print_ledger(out: Output, entries: Sequence[LedgerEntry]) -> None:
    """Print one line a quantity, naive forecasts under the law's."""
    headers = ["", "predicted", "measured", "error", "80% interval", "skill"]
    lines = [_line(entry) for entry in entries]
    # Only what a law forecasts has an interval and a skill.
    shown = [k for k in range(len(headers)) if k < 4 or any(line[k] for line in lines)]
    out.table([headers[k] for k in shown], [[line[k] for k in shown] for line in lines])


def _line(entry: LedgerEntry) -> list[str]:
    name, show = _QUANTITIES[entry.quantity]
    interval = ""
    if entry.interval_80 is not None:
        low, high = entry.interval_80
        interval = f"{show(low)} to {show(high)} {'held' if entry.is_inside else 'missed'}"
    return [
        f"  {_NAIVE[entry.method]}" if entry.method in _NAIVE else name,
        show(entry.predicted),
        show(entry.measured),
        f"{entry.error_frac:+.2%}",
        interval,
        "" if entry.skill is None else f"{entry.skill:.3f}",
    ]


def ledger_document(entries: Sequence[LedgerEntry]) -> dict[str, Any]:
    """Return what --json says of a ledger; `skill` is that of the law's forecast."""
    law = next((entry for entry in entries if entry.method == "law"), None)
    return {
        "ledger": [entry.model_dump(mode="json") for entry in entries],
        "skill": law.skill if law else None,
    }
