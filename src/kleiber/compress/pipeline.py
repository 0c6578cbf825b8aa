"""Steps one after the other, each kept on disk when it is done, so that a compression that was cut off goes on."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from kleiber.compress.calibration import Calibration
from kleiber.compress.kept import read_subject, write_subject
from kleiber.compress.recover import Recover
from kleiber.compress.steps import AnyStep, typed_step
from kleiber.compress.subject import Subject
from kleiber.models.config_file import model_hash
from kleiber.runs import Document
from kleiber.runs.document import hash_of
from kleiber.runs.files import write_folder

__all__ = ["StepDone", "run_steps"]

_DONE = "step.json"
_MODEL = "model"


class StepDone(Document):
    """A step that was done: `step.json` beside the model that came out."""

    step: str
    """As it would be typed."""
    chain: str
    """Hash of the model that came in at first, of the calibration data, and of all steps up to this one."""
    seconds: float
    notes: tuple[str, ...]
    """What the steps so far have to say."""
    is_cut: bool = False
    """Whether units were cut out since the model was last trained."""


def run_steps(
    subject: Subject,
    steps: Sequence[AnyStep],
    calibration: Calibration,
    folder: Path,
    *,
    source: Path,
    on_progress: Callable[[str], None] | None = None,
) -> tuple[Subject, tuple[StepDone, ...]]:
    """Return the model after all steps, and what each of them took; those that `folder` holds are not done again.

    Args:
        subject: What comes in.
        steps: In their order.
        calibration: What they look at.
        folder: Of the compression; each step has a folder in it.
        source: Folder of the model that comes in, with its `config.json`: what is learnt from.
        on_progress: Is told each step as it begins.

    Raises:
        RecipeError: A step does not go with the model or with the steps before it.
        StorageError: The disk refused.
    """
    tell = on_progress or (lambda _: None)
    chain, done = hash_of([model_hash(source), calibration.hash]), []
    for number, step in enumerate(steps, 1):
        chain = hash_of([chain, step.name, step.model_dump(mode="json")])
        place = folder / f"{number:02d}-{step.name}-{chain}"
        if (place / _DONE).is_file():
            subject = _taken_up(place, subject)
        else:
            tell(typed_step(step))
            began = time.perf_counter()
            subject = _applied(step, subject, calibration, source=source, work=place.with_suffix(".work"))
            taken = StepDone(
                step=typed_step(step),
                chain=chain,
                seconds=time.perf_counter() - began,
                notes=subject.notes,
                is_cut=subject.is_cut,
            )
            write_folder(place, partial(_write, subject=subject, done=taken))
            shutil.rmtree(place.with_suffix(".work"), ignore_errors=True)
        done.append(StepDone.read(place / _DONE))
    return subject, tuple(done)


def _applied(
    step: AnyStep, subject: Subject, calibration: Calibration, *, source: Path, work: Path
) -> Subject:
    if isinstance(step, Recover):
        return step.apply(subject, calibration, folder=work, original=source)
    return step.apply(subject, calibration)


def _write(target: Path, *, subject: Subject, done: StepDone) -> None:
    write_subject(subject, target / _MODEL)
    done.write(target / _DONE)


def _taken_up(place: Path, before: Subject) -> Subject:
    done = StepDone.read(place / _DONE)
    return dataclasses.replace(read_subject(place / _MODEL, before), notes=done.notes, is_cut=done.is_cut)
