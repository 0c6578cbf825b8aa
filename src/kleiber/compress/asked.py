"""What was asked of a compression, and whether a folder holds its answer."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from kleiber.compress.gate import Gate
from kleiber.compress.speed import Measuring
from kleiber.errors import RecipeError
from kleiber.models.config_file import model_hash
from kleiber.runs import Document, Recipe, RunFolder, hash_of
from kleiber.runs.receipt import Receipt

__all__ = ["TRIES", "Asked", "known_receipt", "require_apart", "require_compression"]

TRIES = "tries"
"""Folder of what was tried: each step's model, and measurements."""


class Asked(Document):
    """Everything that an answer depends on, the original's files and the pipeline apart."""

    gate: Gate = Gate()
    measuring: Measuring = Measuring()
    num_calibration: int = Field(default=128, ge=1)
    """Samples of the training split that steps look at."""
    seed: int = Field(default=0, ge=0)
    """Of calibration, resamples and the order of turns."""
    recipe: Recipe | None = None
    """Task and data where the source is no run, or others than its own."""

    def hash_with(self, source: Path, pipeline: object) -> str:
        """Return a hash of the whole question.

        Args:
            source: A run or a folder with a `config.json`.
            pipeline: Steps, or the settings of a search.

        Raises:
            RunFolderError: There is no model.
        """
        return hash_of([model_hash(RunFolder(source).find_model()), self.model_dump(mode="json"), pipeline])


def require_apart(source: Path, folder: Path) -> None:
    """Refuse to write over the model that is compressed, or into a folder of something else, before anything there is touched.

    Raises:
        RecipeError: The model is in the folder of the compression, or that is no folder of a compression.
        RunFolderError: A run in it cannot be read.
    """
    place, own = source.resolve(), folder.resolve()
    if place == own or any(place.is_relative_to(one) for one in (RunFolder(own).model_path, own / TRIES)):
        raise RecipeError(
            f"{folder} holds the model that is to be compressed, and a compression needs a folder of its own.",
            hint=f"-o {folder}-small",
        )
    require_compression(RunFolder(folder))


def require_compression(run: RunFolder) -> None:
    """Refuse the folder of a training run or of a model, and one that holds files that a compression would write over.

    Raises:
        RecipeError: It is one.
    """
    if run.exists() and run.read_record().kind != "compress":
        raise RecipeError(
            f"{run.path} holds a training run, and a compression needs a folder of its own.",
            hint=f"-o {run.path}-small",
        )
    if (run.path / "config.json").is_file():
        raise RecipeError(
            f"{run.path} holds a model, and a compression needs a folder of its own.",
            hint=f"-o {run.path}-small",
        )
    written = (run.model_path, run.recipe_path, run.ledger_path, run.receipt_path)
    if not run.exists() and not (run.path / TRIES).is_dir():
        for path in written:
            if path.exists():
                raise RecipeError(
                    f"{path} would be written over, and no compression has written it.",
                    hint=f"-o {run.path}-small",
                )


def known_receipt(folder: Path, asked_hash: str) -> Receipt | None:
    """Return the receipt of this very question where the folder holds it; None where it holds none.

    Raises:
        RecipeError: The folder holds a training run, or the answer to another question.
    """
    run = RunFolder(folder)
    require_compression(run)
    receipt = run.read_receipt()
    if receipt is not None and receipt.asked_hash != asked_hash:
        raise RecipeError(
            f"{folder} holds a compression of another model, with other steps or under another gate.",
            hint=f"another folder with -o, or rm -r {folder}",
        )
    return receipt
