"""The ledger: what was predicted beside what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import computed_field

from kleiber.errors import RunFolderError
from kleiber.runs.document import Document
from kleiber.runs.files import read_lines, write_text

__all__ = ["LedgerEntry", "read_ledger", "write_ledger"]


class LedgerEntry(Document):
    """One quantity that could have been wrong.

    Example:
        >>> entry = LedgerEntry(quantity="val_loss", unit="nats/token", predicted=2.1, measured=2.0,
        ...                     predicted_at="2026-01-01T00:00:00Z", measured_at="2026-01-01T01:00:00Z", method="law")
        >>> round(entry.error_frac, 3)
        0.05
    """

    quantity: Literal[
        "val_loss",
        "val_accuracy",
        "total_time_s",
        "step_time_s",
        "peak_memory_bytes",
        "stored_bytes",
        "latency_s",
    ]
    unit: str
    predicted: float
    measured: float
    predicted_at: str
    measured_at: str
    method: str
    """What predicted it: `law`, `plan`, `last_rung`, `log_log_line`, `forms`, `operations`, `engine`."""
    subject: str | None = None
    """What was planned, where no run folder says it."""
    interval_80: tuple[float, float] | None = None
    """Of the prediction, when it has one."""
    skill: float | None = None
    """Of a forecast of the loss: |error| / (loss of the best rung - measured loss); of an accuracy likewise."""

    @computed_field  # type: ignore[prop-decorator] # mypy does not follow decorated properties
    @property
    def error_frac(self) -> float:
        """(predicted - measured) / measured."""
        return (self.predicted - self.measured) / self.measured

    @computed_field  # type: ignore[prop-decorator] # mypy does not follow decorated properties
    @property
    def is_inside(self) -> bool | None:
        """Whether the 80% interval held."""
        return (
            None if self.interval_80 is None else self.interval_80[0] <= self.measured <= self.interval_80[1]
        )


def write_ledger(path: Path, entries: list[LedgerEntry]) -> None:
    """Write one entry a line."""
    write_text(path, "".join(json.dumps(entry.model_dump(mode="json")) + "\n" for entry in entries))


def read_ledger(path: Path) -> list[LedgerEntry]:
    """Return the entries of a ledger; none when there is no file.

    Raises:
        RunFolderError: A line does not parse.
    """
    return [
        LedgerEntry.of(raw, f"{path} line {number}", RunFolderError)
        for number, raw in enumerate(read_lines(path), start=1)
    ]
