"""A plan put to the test: real steps on this machine beside what was predicted, filed in a ledger."""

from __future__ import annotations

from pathlib import Path

from kleiber.runs import LedgerEntry, now
from kleiber.runs.ledger import read_ledger, write_ledger
from kleiber.study.cost_document import CostPlan
from kleiber.study.measured_step import SubjectArguments, measure
from kleiber.study.place import Place

__all__ = ["file_entries", "measure_plan"]

_NUM_STEPS = 5


def measure_plan(
    plan: CostPlan, arguments: SubjectArguments, place: Place, *, num_steps: int = _NUM_STEPS
) -> tuple[LedgerEntry, ...]:
    """Run real steps of the planned model and return predicted beside measured: peak memory, time of a step.

    Memory is measured in one process whose allocator gives freed blocks back, so that the peak is that of the tensors; time in
    another one whose allocator keeps them, as training does.

    Args:
        plan: Of this machine, made before.
        arguments: Open the same model.
        place: This machine.
        num_steps: Of each process, 2 or more: the first is not timed.

    Raises:
        KleiberError: A process failed or ran out of memory.
    """
    predicted_at = now()
    memory = measure(arguments, plan.usage, num_steps=2, regime="return", num_threads=place.num_threads)
    timed = measure(arguments, plan.usage, num_steps=num_steps, regime="keep", num_threads=place.num_threads)
    pairs = (
        ("peak_memory_bytes", "B", plan.memory_bytes.peak, float(memory.peak_memory_bytes)),
        ("step_time_s", "s", plan.step_time_s, timed.step_time_s),
    )
    return tuple(
        LedgerEntry(
            quantity=quantity,
            unit=unit,
            predicted=predicted,
            measured=measured,
            predicted_at=predicted_at,
            measured_at=now(),
            method="plan",
            subject=f"{plan.model}, batch {plan.usage.batch_size}, {plan.usage.mode}, {plan.usage.precision}",
        )
        for quantity, unit, predicted, measured in pairs
    )


def file_entries(path: Path, entries: tuple[LedgerEntry, ...]) -> None:
    """Add entries to a ledger; what it held stays.

    Raises:
        RunFolderError: The file is no ledger.
        StorageError: The disk refused.
    """
    write_ledger(path, [*read_ledger(path), *entries])
