"""Tables as text: what was planned, the ledger, what was counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kleiber.report.sources import Sources
from kleiber.report.words import Words
from kleiber.runs import LedgerEntry
from kleiber.units import (
    format_accuracy,
    format_bytes,
    format_count,
    format_flops,
    format_loss,
    format_seconds,
)

__all__ = [
    "EMPTY",
    "Cell",
    "Table",
    "counted_table",
    "format_frac",
    "ledger_table",
    "plan_table",
    "table_of",
]

EMPTY = "–"
"""What stands where nothing is known."""


@dataclass(frozen=True)
class Cell:
    """One value as text, and its tone: `good`, `bad`, `accent`, `truth`, `empty` or none."""

    text: str
    tone: str = ""


@dataclass(frozen=True)
class Table:
    """A head and rows of as many cells; the first names the row."""

    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    text: frozenset[int] = frozenset()
    """Columns of words, set to the left; the others are numbers, set to the right."""


_TEXT_KEYS = {
    "method", "status", "measure", "by", "expected", "predicted_value", "engine", "workload", "precision", "asked", "verdict",
}  # fmt: skip


def table_of(words: Words, keys: Sequence[str], rows: Iterable[tuple[str | Cell, ...]]) -> Table | None:
    """Return a table of columns that the strings name `col_KEY`; None without rows."""
    cells = tuple(tuple(cell if isinstance(cell, Cell) else Cell(cell) for cell in row) for row in rows)
    text = frozenset(index for index, key in enumerate(keys) if key in _TEXT_KEYS)
    return Table(tuple(words(f"col_{key}") for key in keys), cells, text) if cells else None


def format_frac(value: float, *, signed: bool = False) -> str:
    """Return a fraction as a percentage with two or three digits.

    Example:
        >>> format_frac(0.0123, signed=True), format_frac(0.4), format_frac(-0.0004, signed=True)
        ('+1.23%', '40.0%', '−0.04%')
    """
    digits = 2 if abs(value) < 0.1 else 1 if abs(value) < 10 else 0
    return f"{value:{'+' if signed else ''}.{digits}%}".replace("-", "−")


def _shown(value: object, formatter: Callable[[float], str]) -> str:
    return formatter(value) if isinstance(value, int | float) and not isinstance(value, bool) else EMPTY


def plan_table(plan: Mapping[str, Any], words: Words) -> Table | None:
    """Return what was planned for each rung and the target; keys that the plan lacks stay empty."""
    rungs = plan.get("rungs")
    target = plan.get("target")
    entries = [rung for rung in rungs if isinstance(rung, dict)] if isinstance(rungs, list) else []
    entries += [{"name": words("target_name")} | target] if isinstance(target, dict) else []
    keys = (
        "run",
        "params",
        "embedding",
        "body",
        "head",
        "tokens",
        "flops",
        "peak_memory",
        "step_time",
        "total_time",
    )
    return table_of(words, keys, (_plan_row(entry) for entry in entries))


def _plan_row(entry: dict[str, Any]) -> tuple[str, ...]:
    params = entry["num_params"] if isinstance(entry.get("num_params"), dict) else {}
    memory = entry["memory_bytes"] if isinstance(entry.get("memory_bytes"), dict) else {}
    return (
        str(entry.get("name", EMPTY)),
        *(_shown(params.get(group), format_count) for group in ("total", "embedding", "body", "head")),
        _shown(entry.get("num_tokens"), format_count),
        _shown(entry.get("train_flops"), format_flops),
        _shown(memory.get("peak"), format_bytes),
        _shown(entry.get("step_time_s"), format_seconds),
        _shown(entry.get("total_time_s"), format_seconds),
    )


_FORMATS: dict[str, Callable[[float], str]] = {
    "val_loss": format_loss,
    "val_accuracy": format_accuracy,
    "total_time_s": format_seconds,
    "step_time_s": format_seconds,
    "peak_memory_bytes": format_bytes,
    "stored_bytes": format_bytes,
    "latency_s": format_seconds,
}


def ledger_table(entries: list[LedgerEntry], words: Words) -> Table | None:
    """Return the ledger: predicted beside measured, with the error; the naive forecasts stand among them."""
    keys = ("quantity", "method", "predicted", "measured", "error", "skill", "held")
    return table_of(words, keys, (_ledger_row(entry, words) for entry in entries))


def _ledger_row(entry: LedgerEntry, words: Words) -> tuple[str | Cell, ...]:
    text = _FORMATS[entry.quantity]
    method = f"method_{entry.method}"
    held = {
        None: Cell(EMPTY, "empty"),
        True: Cell(words("held"), "good"),
        False: Cell(words("missed"), "bad"),
    }
    return (
        words(f"quantity_{entry.quantity}") + (f" ({entry.subject})" if entry.subject else ""),
        words(method) if method in words.texts else entry.method,
        Cell(text(entry.predicted), "accent"),
        Cell(text(entry.measured), "truth"),
        format_frac(entry.error_frac, signed=True),
        Cell(EMPTY, "empty") if entry.skill is None else f"{entry.skill:.2f}",
        held[entry.is_inside],
    )


def counted_table(sources: Sources, words: Words) -> Table | None:
    """Return what follows from the architecture, of the target or of the only run."""
    run = sources.target or (sources.runs[0] if len(sources.runs) == 1 else None)
    if run is None:
        return None
    count, flops = run.record.num_params, run.record.train_flops
    groups = (format_count(value) for value in (count.total, count.embedding, count.body, count.head))
    keys = ("run", "params", "embedding", "body", "head", "flops")
    return table_of(words, keys, [(run.record.run, *groups, format_flops(flops))])
