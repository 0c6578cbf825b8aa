"""`compress`: steps, in their order, measured and judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from kleiber.compress.asked import Asked, known_receipt, require_apart
from kleiber.compress.attempt import Bench
from kleiber.compress.gate import refusal
from kleiber.compress.order import require_sound
from kleiber.compress.publish import publish
from kleiber.compress.steps import AnyStep, typed_step
from kleiber.runs import now
from kleiber.runs.receipt import Receipt
from kleiber.train.lock import exclusive

__all__ = ["compress"]


def compress(
    source: Path,
    steps: Sequence[AnyStep],
    folder: Path,
    *,
    asked: Asked | None = None,
    on_progress: Callable[[str], None] | None = None,
) -> Receipt:
    """Take steps on a trained model, measure it before and after, and write it with its receipt if the gate lets it pass.

    A compression that was cut off goes on with the step that was being taken; one that has finished is returned as it is.

    Args:
        source: A run, or a folder in the Hugging Face layout.
        steps: In their order.
        folder: A run folder of its own: `model/`, `recipe.yaml`, `record.json`, `ledger.jsonl`, `receipt.json`, and `tries/`.
        asked: Gate, engines, calibration, seed; None asks for nothing but a receipt.
        on_progress: Is told each stage.

    Raises:
        GateError: The result misses a bound; nothing but `tries/` is written.
        RecipeError: A step does not go with the model or with the steps before it, or the folder holds something else.
        DataError: Data for calibration is missing or of the wrong kind.
        RunFolderError: There is no model at the source, or a teacher is none.
        UsageError: A weight is not finite, or the gate asks for what this model has not.
        StorageError: The disk refused.
    """
    require_sound(steps)
    require_apart(source, folder)
    asked, started_at = asked or Asked(), now()
    tell = on_progress or (lambda _: None)
    asked_hash = asked.hash_with(source, [typed_step(step) for step in steps])
    with exclusive(folder):
        if (known := known_receipt(folder, asked_hash)) is not None:
            return known
        bench = Bench.open(source, folder, asked, tell)
        attempt = bench.done(steps)
        receipt = bench.receipt(attempt, asked_hash)
        if not receipt.is_met:
            raise refusal(receipt)
        publish(attempt, receipt, folder, started_at=started_at)
        return receipt
