"""The folder of a compressed model: a run folder with a receipt."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import torch

from kleiber.compress.asked import TRIES, require_compression
from kleiber.compress.attempt import Attempt
from kleiber.runs import LedgerEntry, Record, RunFolder, environment, hash_of, now, write_ledger
from kleiber.runs.files import storage_errors, write_folder
from kleiber.runs.receipt import Receipt
from kleiber.train.lock import exclusive

__all__ = ["forget", "publish"]


def publish(attempt: Attempt, receipt: Receipt, folder: Path, *, started_at: str) -> None:
    """Write model, recipe, record and ledger, and the receipt last: a folder without one is not finished.

    Raises:
        StorageError: The disk refused.
    """
    run = RunFolder(folder)
    if run.model_path.exists():  # of an earlier attempt that was cut off before its receipt
        with storage_errors(run.model_path):
            shutil.rmtree(run.model_path)
    write_folder(run.model_path, partial(_copy, attempt.model))
    attempt.subject.recipe.write(run.recipe_path)
    write_ledger(run.ledger_path, [_bytes_entry(receipt)])
    _record(attempt, receipt, run, started_at).write(run.record_path)
    receipt.write(run.receipt_path)


def forget(folder: Path) -> None:
    """Remove what a compression left in a folder, the receipt first.

    Raises:
        RecipeError: The folder holds a training run.
        StorageError: The disk refused.
    """
    run = RunFolder(folder)
    require_compression(run)
    with exclusive(folder), storage_errors(folder):
        for path in (run.receipt_path, run.record_path, run.recipe_path, run.ledger_path):
            path.unlink(missing_ok=True)
        for path in (run.model_path, folder / TRIES):
            if path.exists():
                shutil.rmtree(path)


def _copy(model: Path, target: Path) -> None:
    shutil.copytree(model, target, dirs_exist_ok=True)


def _bytes_entry(receipt: Receipt) -> LedgerEntry:
    return LedgerEntry(
        quantity="stored_bytes",
        unit="B",
        predicted=float(receipt.predicted_bytes),
        measured=float(receipt.after.stored_bytes),
        predicted_at=receipt.created_at,
        measured_at=receipt.created_at,
        method="forms",
    )


def _record(attempt: Attempt, receipt: Receipt, run: RunFolder, started_at: str) -> Record:
    subject = attempt.subject
    flops, recipe = subject.spec.flops(1), subject.recipe
    return Record(
        kind="compress",
        run=run.name,
        status="finished",
        started_at=started_at,
        ended_at=now(),
        recipe=recipe,
        recipe_hash=hash_of(recipe),
        seed=receipt.seed,
        environment=environment(torch.get_num_threads()),
        data=subject.data.meta,
        num_params=subject.spec.count(),
        train_flops=flops.total * attempt.training_tokens / recipe.tokens_per_sample,
        flops_convention=flops.convention,
        lineage=receipt.lineage,
    )
