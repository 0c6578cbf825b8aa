"""An advice scored against a run that followed it: each quantity that was foretold, beside what was measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from kleiber.errors import ConventionError, UsageError
from kleiber.runs import LedgerEntry, Record
from kleiber.runs.receipt import Receipt
from kleiber.study.advice.document import Advice, Prediction, Route
from kleiber.units import format_count

__all__ = ["read_if_advice", "scored"]

_ROUNDING_FRAC = 0.01
"""How far a run's tokens may be from those that were advised: it takes whole steps."""


def read_if_advice(path: Path) -> Advice | None:
    """Return the advice in a file; None where it is another document, or none at all, which its own reader says.

    Raises:
        RunFolderError: It is an advice with a key that is missing or wrong.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return Advice.read(path) if isinstance(raw, dict) and "routes" in raw else None


def scored(advice: Advice, record: Record, receipt: Receipt | None = None) -> tuple[LedgerEntry, ...]:
    """Return the ledger of an advice: what it said of the route that a run took, beside what came out.

    A run that was trained scores loss and time; with the receipt of its compression, loss after it and bytes.

    Args:
        advice: Written before the run.
        record: Of the run, or of the compressed model.
        receipt: Of the compression.

    Raises:
        ConventionError: The advice was altered, was written after the run began, or none of its routes is of this model and these
            tokens.
        UsageError: The run has not finished.
    """
    if advice.hash != advice.expected_hash():
        raise ConventionError(
            "The advice was altered after it was written: its hash is not that of its content.",
            got=advice.hash,
            hint="restore advice.json from a copy",
        )
    if record.status != "finished" or (record.result is None and receipt is None):
        raise UsageError(
            f"run {record.run!r} has not finished, so there is nothing to compare.", got=record.status
        )
    if datetime.fromisoformat(record.started_at) < datetime.fromisoformat(advice.created_at):
        raise ConventionError(
            f"run {record.run!r} started at {record.started_at}, before the advice was written.",
            got=advice.created_at,
            hint="write the advice first: kleiber advise law.json ... -o advice.json, then kleiber train",
        )
    route = _route_of(advice, record)
    measured = dict(_measured(record, receipt))
    return tuple(
        LedgerEntry(
            quantity=said.quantity,
            unit=said.unit,
            predicted=said.predicted,
            measured=measured[said.quantity, said.stage],
            predicted_at=advice.created_at,
            measured_at=record.ended_at or record.started_at,
            method=said.method,
            subject=route.title,
            interval_80=_closed(said),
        )
        for said in route.predictions
        if (said.quantity, said.stage) in measured
    )


def _route_of(advice: Advice, record: Record) -> Route:
    """Return the route whose model and tokens are the run's."""
    size, tokens = record.num_params.by(advice.question.convention), record.recipe.num_tokens
    for route in advice.routes:
        is_size = record.kind == "compress" or round(route.num_params) == size
        if is_size and abs(route.num_tokens - tokens) <= _ROUNDING_FRAC * tokens:
            return route
    advised = "; ".join(f"{one.model} on {format_count(one.num_tokens)} tokens" for one in advice.routes)
    raise ConventionError(
        f"run {record.run!r} of {format_count(size)} parameters ({advice.question.convention}) on {format_count(tokens)} tokens is none of "
        f"the routes: {advised}.",
        hint="train the model and the tokens of a route",
    )


def _measured(record: Record, receipt: Receipt | None) -> Iterator[tuple[tuple[str, str], float]]:
    """Yield what was measured by quantity and stage."""
    if record.result is not None:
        yield ("val_loss", "trained"), record.result.val_loss
        yield ("total_time_s", "trained"), record.result.total_time_s
    if receipt is not None:
        losses = [one for one in receipt.quality if one.name == "loss"]
        if losses:
            main = next((one for one in losses if one.engine == receipt.engine), losses[0])
            yield ("val_loss", "served"), main.after.value
        yield ("stored_bytes", "served"), float(receipt.after.stored_bytes)


def _closed(said: Prediction) -> tuple[float, float] | None:
    """Return an interval whose ends are both known."""
    if said.interval_80 is None or said.interval_80[0] is None or said.interval_80[1] is None:
        return None
    return said.interval_80[0], said.interval_80[1]
