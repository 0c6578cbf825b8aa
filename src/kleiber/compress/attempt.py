"""One pipeline, done and measured: what a gate judges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from kleiber.compress.asked import TRIES, Asked
from kleiber.compress.calibration import Calibration, calibration_of
from kleiber.compress.gate import judge, require_judgeable
from kleiber.compress.pipeline import StepDone, run_steps
from kleiber.compress.receipt import Original, Work, receipt_of
from kleiber.compress.recover import Recover
from kleiber.compress.source import open_source
from kleiber.compress.steps import AnyStep
from kleiber.compress.subject import Subject
from kleiber.models.stored import stored_bytes
from kleiber.runs import Lineage, Recipe, RunFolder, hash_of
from kleiber.runs.receipt import Receipt

__all__ = ["TRIES", "Attempt", "Bench", "open_original"]


@dataclass(frozen=True)
class Attempt:
    """What came out of a pipeline."""

    subject: Subject
    model: Path
    """The folder that holds it."""
    done: tuple[StepDone, ...]
    training_tokens: int


@dataclass(frozen=True)
class Bench:
    """Where pipelines of one original are done and measured; what `folder` holds is not done again."""

    original: Original
    source: Path
    folder: Path
    """Of the compression."""
    calibration: Calibration
    asked: Asked
    tell: Callable[[str], None]

    @classmethod
    def open(cls, source: Path, folder: Path, asked: Asked, tell: Callable[[str], None]) -> Self:
        """Return the bench of what a user names, with the data read.

        Raises:
            UsageError: The gate asks for what this model has not, or a weight is not finite.
            RecipeError: As `open_original`.
            DataError: As `open_original`, or data for calibration is missing or of the wrong kind.
            RunFolderError: As `open_original`.
        """
        original = open_original(source, asked.recipe, asked.seed, on_progress=tell)
        require_judgeable(asked.gate, original.subject.recipe.task.name)
        calibration = calibration_of(original.subject.data, asked.num_calibration, asked.seed)
        return cls(original, source, folder, calibration, asked, tell)

    def done(self, steps: Sequence[AnyStep]) -> Attempt:
        """Return the model after steps.

        Raises:
            RecipeError: A step does not go with the model or with the steps before it.
            StorageError: The disk refused.
        """
        tries = self.folder / TRIES
        subject, done = run_steps(
            self.original.subject,
            steps,
            self.calibration,
            tries,
            source=RunFolder(self.source).find_model(),
            on_progress=self.tell,
        )
        model = tries / f"{len(steps):02d}-{steps[-1].name}-{done[-1].chain}" / "model"
        recipe = self.original.subject.recipe
        trained = sum(step.num_tokens(recipe) for step in steps if isinstance(step, Recover))
        return Attempt(subject, model, done, trained)

    def receipt(self, attempt: Attempt, asked_hash: str) -> Receipt:
        """Return what was measured of an attempt, judged by the gate; it is measured once."""
        key = hash_of([self.asked.measuring.model_dump(mode="json"), self.asked.seed])
        path = self.folder / TRIES / f"measured-{attempt.done[-1].chain}-{key}.json"
        if not path.is_file():
            work = Work(
                attempt.done,
                self.calibration,
                attempt.training_tokens,
                asked_hash,
                sum(one.seconds for one in attempt.done),
            )
            receipt_of(
                self.original,
                attempt.subject,
                work,
                stored_bytes=stored_bytes(attempt.model),
                measuring=self.asked.measuring,
                tell=self.tell,
            ).write(path)
        receipt = Receipt.read(path).model_copy(update={"asked_hash": asked_hash})
        return judged(receipt, self.asked)


def judged(receipt: Receipt, asked: Asked) -> Receipt:
    """Return a receipt with the bounds of a gate, and a sentence where one is met or missed within noise.

    Raises:
        UsageError: The gate asks for what was not measured.
    """
    gate = judge(asked.gate, receipt)
    says = tuple(
        f"{one.name} {one.asked} is {'met' if one.is_met else 'missed'} within the noise: the 95% interval reaches across it."
        for one in gate
        if one.is_within_noise
    )
    return receipt.model_copy(update={"gate": gate, "says": (*receipt.says, *says)})


def open_original(
    source: Path, recipe: Recipe | None, seed: int, *, on_progress: Callable[[str], None] | None = None
) -> Original:
    """Return the model that comes in, and where it comes from.

    Raises:
        RunFolderError: There is no model, or it does not load.
        RecipeError: A folder without a run came without a recipe, or model and data do not fit.
        DataError: The data is missing or of another kind.
        UsageError: A weight is not finite.
    """
    subject = open_source(source, recipe, on_progress=on_progress)
    return Original(
        subject, str(source), _lineage(source), stored_bytes(RunFolder(source).find_model()), seed
    )


def _lineage(source: Path) -> tuple[Lineage, ...]:
    """Return the models that this one will have come from."""
    run = RunFolder(source.resolve())
    if not run.exists():
        return (Lineage(run=run.name, operation="compress", step=0),)
    record = run.read_record()
    before = tuple(link for link in record.lineage if link.operation == "compress")
    step = record.result.num_steps if record.result else 0
    return (*before, Lineage(run=run.name, operation="compress", step=step))
